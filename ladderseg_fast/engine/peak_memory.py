"""The most memory a training has taken so far."""

import re
import sys
from pathlib import Path

import torch

_STATUS = Path("/proc/self/status")


def peak_memory(device: torch.device) -> int:
    """Bytes at the peak.

    On CUDA: the most that torch's allocator had given out on `device`. On the CPU: the largest resident set
    of this process since it started, interpreter and libraries included; loader workers are not.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if _STATUS.exists():
        found = re.search(r"^VmHWM:\s+(\d+) kB$", _STATUS.read_text(), re.MULTILINE)
        if found:
            return int(found[1]) * 1024
    return _maximum_resident_set()


def format_bytes(count: int) -> str:
    """In MiB below 10 GiB, else in GiB."""
    return f"{count / 2**20:.0f} MiB" if count < 10 * 2**30 else f"{count / 2**30:.1f} GiB"


def _maximum_resident_set() -> int:
    """From getrusage, for systems without /proc; its unit is bytes on macOS and KiB elsewhere."""
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
