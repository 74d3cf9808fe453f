"""Drives the emulator library as the driver API it stands for."""

from __future__ import annotations

import ctypes
import functools
from dataclasses import dataclass

import numpy as np
from emulator.library import build_library

READ, WRITE, READ_WRITE, SCRATCH = range(4)


class EmulatorBuffer(ctypes.Structure):
    _fields_ = [
        ("data", ctypes.c_void_p),
        ("rows", ctypes.c_int64),
        ("row_bytes", ctypes.c_int64),
        ("row_stride_bytes", ctypes.c_int64),
        ("access", ctypes.c_int),
        ("name", ctypes.c_char_p),
    ]


class EmulatorTraffic(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_int64)
        for name in (
            "read_bytes", "written_bytes", "read_bytes_distinct", "written_bytes_distinct", "shared_bank_conflicts",
            "shared_accesses", "instructions", "fma", "mma_products",
        )
    ]  # fmt: skip


@functools.cache
def library() -> ctypes.CDLL:
    lib = ctypes.CDLL(str(build_library()))
    lib.emulator_report.restype = ctypes.c_char_p
    lib.emulator_configure.argtypes = [ctypes.c_int, ctypes.c_uint64]
    return lib


class LaunchError(Exception):
    def __init__(self, code: int, report: str):
        super().__init__(f"error {code}: {report}")
        self.code = code
        self.report = report


def check(code: int) -> None:
    if code:
        raise LaunchError(code, library().emulator_report().decode())


@dataclass
class Buffer:
    """An array as a kernel argument, with what the kernel may do with it; a 2-D slice keeps its row stride."""

    array: np.ndarray
    access: int
    name: str = "buffer"

    def declaration(self) -> EmulatorBuffer:
        a = self.array
        if a.ndim == 2:
            assert a.strides[1] == a.itemsize
            rows, row_bytes, stride = a.shape[0], a.shape[1] * a.itemsize, a.strides[0]
        else:
            assert a.flags.c_contiguous
            rows, row_bytes, stride = 1, a.nbytes, a.nbytes
        return EmulatorBuffer(a.ctypes.data, rows, row_bytes, stride, self.access, self.name.encode())


def aligned(shape, dtype, alignment=128) -> np.ndarray:
    """Zeros that begin at an aligned address, as the memory of a device does."""
    count = int(np.prod(shape))
    dtype = np.dtype(dtype)
    raw = np.zeros(count * dtype.itemsize + alignment, np.uint8)
    skip = -raw.ctypes.data % alignment
    return raw[skip : skip + count * dtype.itemsize].view(dtype).reshape(shape)


def aligned_copy(array) -> np.ndarray:
    array = np.asarray(array)
    copy = aligned(array.shape, array.dtype)
    copy[...] = array
    return copy


class Module:
    """PTX loaded on a device, with its kernels."""

    def __init__(self, ptx: str, compute_capability: int = 80, seed: int = 1, device: int = 0):
        lib = library()
        lib.emulator_configure(compute_capability, seed)
        context = ctypes.c_void_p()
        check(lib.cuDevicePrimaryCtxRetain(ctypes.byref(context), device))
        check(lib.cuCtxSetCurrent(context))
        self.handle = ctypes.c_void_p()
        check(lib.cuModuleLoadData(ctypes.byref(self.handle), ptx.encode()))

    def function(self, name: str) -> ctypes.c_void_p:
        result = ctypes.c_void_p()
        check(library().cuModuleGetFunction(ctypes.byref(result), self.handle, name.encode()))
        return result

    def launch(self, name, grid, block, *arguments, shared: int = 0, checked: bool = True) -> EmulatorTraffic:
        """Arguments are Buffers or ctypes values; raises LaunchError."""
        lib = library()
        function = self.function(name)
        buffers = [a for a in arguments if isinstance(a, Buffer)]
        values = [ctypes.c_void_p(a.array.ctypes.data) if isinstance(a, Buffer) else a for a in arguments]
        if checked:
            declarations = (EmulatorBuffer * max(1, len(buffers)))(*[b.declaration() for b in buffers])
            lib.emulator_set_buffers(declarations, len(buffers))
        pointers = (ctypes.c_void_p * max(1, len(values)))(*[ctypes.addressof(v) for v in values])
        check(lib.cuLaunchKernel(function, *_three(grid), *_three(block), shared, None, pointers, None))
        traffic = EmulatorTraffic()
        lib.emulator_traffic(ctypes.byref(traffic))
        return traffic


def _three(shape) -> tuple[int, int, int]:
    shape = (shape,) if isinstance(shape, int) else tuple(shape)
    return shape + (1,) * (3 - len(shape))
