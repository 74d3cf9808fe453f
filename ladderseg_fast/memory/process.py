"""Memory that this process takes now, and its peak."""

import re
import sys
from pathlib import Path

import torch

_STATUS = Path("/proc/self/status")


def peak_memory(device: torch.device) -> int:
    """Bytes at the peak.

    On CUDA: the most that torch's allocator has handed out on `device`. On the CPU: the largest resident set of this
    process since it started, with interpreter and libraries, without loader workers.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return _status("VmHWM") or _maximum_resident_set()


def memory_in_use(device: torch.device) -> int | None:
    """Bytes in use now, counted as by `peak_memory`; None on the CPU of a system that does not report them."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device)
    return _status("VmRSS")


def _status(line: str) -> int | None:
    """Bytes in a line of the kernel's status of this process; None if there is no such line."""
    found = re.search(rf"^{line}:\s+(\d+) kB$", _STATUS.read_text(), re.MULTILINE) if _STATUS.exists() else None
    return int(found[1]) * 1024 if found else None


def _maximum_resident_set() -> int:
    """Largest resident set by getrusage, for systems without /proc; its unit is bytes on macOS and KiB elsewhere."""
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
