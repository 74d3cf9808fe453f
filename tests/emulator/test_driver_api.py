"""Devices, contexts, attributes and errors, as the CUDA driver has them."""

import ctypes
import threading

import pytest
from emulator.cuda_compiler import ptx_of
from emulator.device import LaunchError, Module, library

EMPTY = 'extern "C" __global__ void __launch_bounds__(128) k() {}'


@pytest.fixture
def module():
    return Module(ptx_of(EMPTY, 61, prefer_nvrtc=True), 61)


def attribute(number: int, device: int = 0) -> int:
    value = ctypes.c_int()
    assert library().cuDeviceGetAttribute(ctypes.byref(value), number, device) == 0
    return value.value


def launch(function, grid=(1, 1, 1), block=(32, 1, 1)) -> int:
    return library().cuLaunchKernel(function, *grid, *block, 0, None, None, None)


def test_devices(module):
    count = ctypes.c_int()
    assert library().cuDeviceGetCount(ctypes.byref(count)) == 0 and count.value == 2
    assert (attribute(75), attribute(76), attribute(10), attribute(8)) == (6, 1, 32, 49152)
    name = ctypes.create_string_buffer(64)
    assert library().cuDeviceGetName(name, 64, 1) == 0 and b"1" in name.value
    assert library().cuDeviceGet(ctypes.byref(count), 2) == 101


def test_no_current_context(module):
    function = module.function("k")
    assert launch(function) == 0
    codes = []
    thread = threading.Thread(target=lambda: codes.append(launch(function)))
    thread.start()
    thread.join()
    assert codes == [201]


def test_function_of_another_device(module):
    function = module.function("k")
    Module(ptx_of(EMPTY, 61, prefer_nvrtc=True), 61, device=1)
    assert launch(function) == 400
    context = ctypes.c_void_p()
    assert library().cuDevicePrimaryCtxRetain(ctypes.byref(context), 0) == 0
    assert library().cuCtxPushCurrent_v2(context) == 0
    assert launch(function) == 0
    assert library().cuCtxPopCurrent_v2(ctypes.byref(context)) == 0
    assert launch(function) == 400


def test_shapes_beyond_the_limits(module):
    function = module.function("k")
    assert launch(function, block=(128, 1, 1)) == 0
    assert launch(function, block=(129, 1, 1)) == 1  # __launch_bounds__
    assert launch(function, grid=(1, 65536, 1)) == 1
    assert launch(function, grid=(0, 1, 1)) == 1


def test_ptx_for_a_newer_device():
    with pytest.raises(LaunchError) as caught:
        Module(ptx_of(EMPTY, 80, prefer_nvrtc=True), 61)
    assert caught.value.code == 209


def test_names_of_errors(module):
    text = ctypes.c_char_p()
    assert library().cuGetErrorName(719, ctypes.byref(text)) == 0 and text.value == b"CUDA_ERROR_LAUNCH_FAILED"
    assert library().cuGetErrorString(716, ctypes.byref(text)) == 0 and text.value == b"misaligned address"
    with pytest.raises(LaunchError, match="no kernel missing"):
        module.function("missing")
