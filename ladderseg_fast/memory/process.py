"""Memory that this process takes, and has taken at most."""

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
    return _status("VmHWM") or _maximum_resident_set()


def memory_in_use(device: torch.device) -> int | None:
    """Bytes now, of the same kind as `peak_memory`'s; None for a system's CPU that does not tell."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device)
    return _status("VmRSS")


def _status(line: str) -> int | None:
    """Bytes that the kernel records of this process, if it does."""
    found = re.search(rf"^{line}:\s+(\d+) kB$", _STATUS.read_text(), re.MULTILINE) if _STATUS.exists() else None
    return int(found[1]) * 1024 if found else None


def _maximum_resident_set() -> int:
    """Largest resident set by getrusage, for systems without /proc; its unit is bytes on macOS and KiB elsewhere."""
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
