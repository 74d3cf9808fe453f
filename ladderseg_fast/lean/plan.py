"""The choices that trade time for memory."""

from dataclasses import dataclass

MIB = 1 << 20


@dataclass(frozen=True)
class MemoryPlan:
    """How a lean step spends memory.

    chunk_bytes: the 3x3 convolutions and the stem work on groups of images or strips of rows whose input takes about
        so many bytes. Smaller strips repeat more work at their edges.
    """

    chunk_bytes: int = 8 * MIB

    def __post_init__(self) -> None:
        if self.chunk_bytes < 1:
            raise ValueError(f"chunk_bytes must be positive, got {self.chunk_bytes}")
