"""Blocks of a kernel that a multiprocessor holds, from the kernel's registers, shared memory and block size."""

from dataclasses import dataclass

WARP = 32
_REGISTERS = 65536
# Registers come in this unit, per warp.
_REGISTER_UNIT = 256


@dataclass(frozen=True)
class Limits:
    """Limits of one multiprocessor of a compute capability: warps, blocks, bytes of shared memory.

    Source: CUDA programming guide, "Compute Capabilities", technical specifications. cuda_occupancy.h gives the
    reserved bytes per block, the unit of allocation and the number of partitions among which warps and registers are
    divided.
    """

    warps: int
    blocks: int
    shared: int
    shared_unit: int = 128
    shared_reserved: int = 1024
    partitions: int = 4


_KB = 1024
LIMITS = {
    60: Limits(64, 32, 64 * _KB, 256, 0, 2),
    61: Limits(64, 32, 96 * _KB, 256, 0),
    70: Limits(64, 32, 96 * _KB, 256, 0),
    75: Limits(32, 16, 64 * _KB, 256, 0),
    80: Limits(64, 32, 164 * _KB),
    86: Limits(48, 16, 100 * _KB),
    89: Limits(48, 24, 100 * _KB),
    90: Limits(64, 32, 228 * _KB),
    100: Limits(64, 32, 228 * _KB),
    103: Limits(64, 32, 228 * _KB),
    120: Limits(48, 24, 100 * _KB),
}


def occupancy(architecture: int, registers: int, shared: int, threads: int) -> float:
    """Active warps / maximum warps for blocks of `threads` with `shared` bytes; 0 if not even one block fits.

    architecture is a number such as 86.

    Raises:
        ValueError: its limits are not in the table.
    """
    blocks = blocks_per_multiprocessor(architecture, registers, shared, threads)
    return blocks * warps_of(threads) / LIMITS[architecture].warps


def blocks_per_multiprocessor(architecture: int, registers: int, shared: int, threads: int) -> int:
    """Blocks of `threads` with `shared` bytes that a multiprocessor holds at a time; 0 if not even one fits.

    Raises:
        ValueError: its limits are not in the table.
    """
    if architecture not in LIMITS:
        raise ValueError(f"no limits are known for sm_{architecture}, only for {', '.join(map(str, LIMITS))}")
    limits = LIMITS[architecture]
    warps = warps_of(threads)
    per_warp = _round_up(registers * WARP, _REGISTER_UNIT)
    warps_by_registers = _REGISTERS // limits.partitions // per_warp * limits.partitions
    per_block = _round_up(shared + limits.shared_reserved, limits.shared_unit)
    blocks_by_shared = limits.shared // per_block if per_block else limits.blocks
    return min(limits.blocks, limits.warps // warps, warps_by_registers // warps, blocks_by_shared)


def warps_of(threads: int) -> int:
    """Warps of a block."""
    return _round_up(threads, WARP) // WARP


def _round_up(value: int, unit: int) -> int:
    return -(-value // unit) * unit
