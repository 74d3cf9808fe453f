"""Peak memory of a piece of work, above what was in use when it began."""

import os
import re
import threading
from pathlib import Path

import torch

_PROCESS = Path("/proc/self")
_SAMPLING_PERIOD_S = 0.002


class KernelPeak:
    """Highest resident set since `start`, as the kernel itself records it (VmHWM)."""

    how = "highest resident set, recorded by the kernel (VmHWM)"
    reserved: int | None = None

    def start(self) -> None:
        """Starts the record. Raises OSError if the process may not reset the kernel's record."""
        (_PROCESS / "clear_refs").write_text("5")
        self._before = self._high_water_mark()

    def stop(self) -> int:
        """Bytes at the peak above those at `start`."""
        return self._high_water_mark() - self._before

    @staticmethod
    def _high_water_mark() -> int:
        status = (_PROCESS / "status").read_text()
        found = re.search(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)
        if found is None:
            raise OSError("/proc/self/status has no line VmHWM")
        return int(found[1]) * 1024


class SampledPeak:
    """Highest resident set that a thread saw, looking every few milliseconds."""

    how = f"highest resident set, sampled every {_SAMPLING_PERIOD_S * 1e3:.0f} ms (the kernel's cannot be reset)"
    reserved: int | None = None

    def start(self) -> None:
        self._before = self._peak = self._resident()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> int:
        """Bytes at the peak above those at `start`."""
        self._done.set()
        self._thread.join()
        return max(self._peak, self._resident()) - self._before

    def _watch(self) -> None:
        while not self._done.wait(_SAMPLING_PERIOD_S):
            self._peak = max(self._peak, self._resident())

    @staticmethod
    def _resident() -> int:
        return int((_PROCESS / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class CudaPeak:
    """Most bytes in tensors on a CUDA device, as torch's allocator counts them.

    reserved: the most that it held for tensors and between them since `start`: what a device must have. Known once
        stopped.
    """

    how = "most bytes allocated on the device (torch.cuda.max_memory_allocated)"

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.reserved: int | None = None

    def start(self) -> None:
        torch.cuda.reset_peak_memory_stats(self._device)
        self._before = torch.cuda.memory_allocated(self._device)

    def stop(self) -> int:
        """Bytes at the peak above those at `start`."""
        self.reserved = torch.cuda.max_memory_reserved(self._device) - self._before
        return torch.cuda.max_memory_allocated(self._device) - self._before


def started_meter(device: torch.device) -> KernelPeak | SampledPeak | CudaPeak:
    """Best meter that this system has for `device`, started; its `how` says which one it is.

    Raises:
        OSError: the device is the CPU and there is no /proc file system.
    """
    if device.type == "cuda":
        meter = CudaPeak(device)
        meter.start()
        return meter
    if not (_PROCESS / "statm").exists():
        raise OSError("peak memory on the CPU is read from /proc/self, which this system does not have")
    try:
        meter = KernelPeak()
        meter.start()
    except OSError:
        meter = SampledPeak()
        meter.start()
    return meter
