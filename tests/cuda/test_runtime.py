"""What calls the CUDA driver, with the emulator in the driver's place. Each test has its own process."""

import pytest
from emulator.process import run_code

PRELUDE = """
import ctypes, os, sys, tempfile, threading
from pathlib import Path
import torch
from emulator import emulation
from emulator.library import build_library
from ladderseg_fast import _core, ops
from ladderseg_fast.cuda import images, nvrtc
from ladderseg_fast.ops import backend
from ladderseg_fast.ops.affine_correction import affine_correction
from ladderseg_fast.ops.arguments import Correction, Gradient, Norm
from ladderseg_fast.ops.bn_add_relu import bn_add_relu_forward
from ladderseg_fast.ops.bn_relu import bn_relu_backward, bn_relu_forward
from ladderseg_fast.ops.bn_relu_avgpool2 import bn_relu_avgpool2_forward
from ladderseg_fast.ops.bn_relu_conv1x1 import bn_relu_conv1x1_forward
from ladderseg_fast.ops.bn_relu_maxpool import bn_relu_maxpool_forward
from ladderseg_fast.ops.bn_relu_patches import bn_relu_patches_forward
from ladderseg_fast.ops.upsample import upsample_backward, upsample_forward
from ladderseg_fast.ops.upsample_argmax import write_labels

torch.set_num_threads(2)
emulator = str(build_library())
directory = tempfile.TemporaryDirectory()

def emulate(provider=emulation.ptx):
    '''What the core has loaded it keeps by the path of the driver, so every call starts afresh.'''
    path = os.path.join(directory.name, f"driver{len(os.listdir(directory.name))}.so")
    os.symlink(emulator, path)
    library = ctypes.CDLL(emulator)
    library.emulator_configure(80, ctypes.c_uint64(1))
    backend.use(backend.EmulatedCuda(path, provider))
    return library

def bn_relu(n=2):
    x = torch.linspace(-1, 1, n * 60).view(n, 5, 3, 4)
    arguments = x, torch.zeros(5), torch.ones(5), None, None
    out = ops.bn_relu(*arguments)
    assert torch.equal(out, ops.reference.bn_relu(*arguments))
    return out

def error_of(call, kind=RuntimeError):
    try:
        call()
    except kind as error:
        assert type(error) is kind, repr(error)
        return str(error)
    raise AssertionError("no error")

def current_context(library):
    context = ctypes.c_void_p()
    assert library.cuCtxGetCurrent(ctypes.byref(context)) == 0
    return context.value

def mapped(name):
    return name in Path("/proc/self/maps").read_text()
"""


def run(code: str) -> None:
    """`code`, whose assertions must hold, after the prelude."""
    run_code(f"{PRELUDE}\n{code}")


def test_errors_of_the_driver() -> None:
    """They say what was being done, to which kernel, and what the driver calls the error."""
    run("""
emulate(lambda name, architecture, driver_version: b"this is no PTX")
text = error_of(bn_relu)
assert "loading the kernel image bn_relu_float32 (14 bytes)" in text, text
assert "compute capability 8.0" in text and "CUDA_ERROR_INVALID_PTX (218)" in text, text

emulate(lambda name, *device: emulation.ptx("affine_correction_float32", *device))
text = error_of(bn_relu)
assert "looking up the kernel bn_relu_forward_float32: CUDA_ERROR_NOT_FOUND (500)" in text, text

def broken(name, architecture, driver_version):
    source = Path(directory.name) / "broken.cu"
    source.write_text('''
#include "element.cuh"
#include "bn_relu.h"
namespace ladderseg::cuda {
extern "C" __global__ void bn_relu_forward_float32(const BnReluForwardArguments<Element, Real> args) {
  args.output.data[-1] = 0.0f;
}
}''')
    return nvrtc.compile(source, images.sources(), "float32", "sm_80", kind="ptx").image

library = emulate(broken)
for _ in range(2):
    text = error_of(bn_relu)
    assert "launching bn_relu_forward_float32, grid (1, 1, 1), block (8, 32, 1)" in text, text
    assert "CUDA_ERROR_ILLEGAL_ADDRESS (700)" in text and "output" in text, text
    assert current_context(library) is None

emulate()
bn_relu()
""")


def test_errors_of_the_image_provider() -> None:
    """Those of Python come through as they are; the next call asks again."""
    run("""
asked = []

def provider(name, architecture, driver_version):
    asked.append((name, architecture))
    assert driver_version >= 11000
    if len(asked) == 1:
        raise KeyError("no such image")
    return None if len(asked) == 2 else emulation.ptx(name, architecture, driver_version)

library = emulate(provider)
assert "no such image" in error_of(bn_relu, KeyError)
error_of(bn_relu)
assert current_context(library) is None
for _ in range(3):
    bn_relu()
assert asked == [("bn_relu_float32", (8, 0))] * 3, asked
""")


def test_driver_that_cannot_be_opened() -> None:
    run("""
backend.use(backend.EmulatedCuda("/nowhere/libcuda.so", emulation.ptx))
for _ in range(2):
    text = error_of(bn_relu)
    assert "cannot open the CUDA driver" in text and "/nowhere/libcuda.so" in text, text
backend.use(backend.EmulatedCuda("libm.so.6", emulation.ptx))
text = error_of(bn_relu)
assert "the CUDA driver libm.so.6 has no function cuInit" in text, text
emulate()
bn_relu()
""")


def test_nothing_is_opened_before_the_first_launch() -> None:
    """Not by the import, nor by the choice of a driver."""
    run("""
libraries = ("libcuda.so", "libcudart", "libnvrtc", "libcuda_emulator")
assert not any(map(mapped, libraries))
assert not torch.cuda.is_initialized()
backend.use(backend.EmulatedCuda(emulator, emulation.ptx))
assert not any(map(mapped, libraries))
bn_relu()
assert mapped("libcuda_emulator") and not mapped("libcuda.so")
""")


def test_recording_launches_nothing() -> None:
    """No driver is opened; the records are those of the launches, in order, and end with the recording."""
    run("""
backend.use(backend.EmulatedCuda("/nowhere/libcuda.so", emulation.ptx))
_core.cuda_start_recording(capability=80, multiprocessors=108)
x = torch.zeros(2, 64, 3, 5).contiguous(memory_format=torch.channels_last)
norm = Norm(*torch.zeros(3, 64))
out = torch.full_like(x, 7.0)
bn_relu_forward(x, norm, out)
bn_relu_backward(x, x, norm, out, accumulate=False)
records = _core.cuda_stop_recording()
assert (out == 7.0).all()
forward, backward, sums = records
assert forward.kernel == "bn_relu_forward_float32" and backward.kernel == "bn_relu_backward_float32"
assert sums.kernel == "bn_sums_float32"
assert forward.grid == (1, 1, 1) and forward.block == (16, 16, 1), (forward.grid, forward.block)
assert forward.read_bytes == x.nbytes + 3 * 64 * 4 and forward.written_bytes == x.nbytes
assert backward.read_bytes == 2 * x.nbytes + 3 * 64 * 4
assert sums.written_bytes == 2 * 64 * 8
assert forward.operations > 0
assert _core.cuda_stop_recording() == []
error_of(lambda: bn_relu_forward(x, norm, out))
_core.cuda_start_recording(capability=61, multiprocessors=28)
assert _core.cuda_stop_recording() == []
""")


def test_maps_without_pixels() -> None:
    """What has no other result writes nothing, and launches a block that has nothing to do, at most."""
    run("""
emulate()
def empty(channels, h, w):
    return torch.empty(0, channels, h, w).to(memory_format=torch.channels_last)

x, norm = empty(8, 6, 4), Norm(*torch.zeros(3, 8))
correction = Gradient(x, x, Correction(*torch.zeros(3, 8)))
labels = torch.empty(0, 6, 4, dtype=torch.uint8)
calls = [
    lambda: bn_add_relu_forward(x, norm, x, None, empty(8, 6, 4)),
    lambda: bn_relu_forward(x, norm, empty(8, 6, 4)),
    lambda: bn_relu_conv1x1_forward(x, norm, torch.zeros(5, 8, 1, 1), empty(5, 6, 4)),
    lambda: bn_relu_avgpool2_forward(x, norm, empty(8, 3, 2)),
    lambda: bn_relu_maxpool_forward(x, norm, empty(8, 3, 2)),
    lambda: bn_relu_patches_forward(x, norm, empty(72, 3, 2)),
    lambda: affine_correction(correction, empty(8, 6, 4)),
    lambda: upsample_forward(empty(8, 3, 2), x),
    lambda: upsample_backward(x, empty(8, 3, 2)),
    lambda: write_labels(empty(8, 3, 2), labels),
]
for call in calls:
    call()
    _core.cuda_start_recording(80, 108)
    call()
    for record in _core.cuda_stop_recording():
        assert record.grid == (1, 1, 1) and record.written_bytes == 0, record.kernel
""")


def test_two_devices() -> None:
    """Each has its own context and images; the one that is current stays so."""
    run("""
asked = []

def provider(name, *device):
    asked.append(name)
    return emulation.ptx(name, *device)

library = emulate(provider)
scratch = []

def allocate(size):
    scratch.append(torch.empty(size, dtype=torch.uint8))
    return scratch[-1].data_ptr()

def use(number):
    backend.backend_of(torch.device("cpu"))._queue = lambda x: _core.Cuda(
        _core.Element.float32, number, 0, allocate, False)

contexts = []
for number in range(2):
    context = ctypes.c_void_p()
    assert library.cuDevicePrimaryCtxRetain(ctypes.byref(context), number) == 0
    contexts.append(context)
for current in (None, *contexts):
    library.cuCtxSetCurrent(current)
    before = current_context(library)
    for number in (0, 1, 1, 0):
        use(number)
        bn_relu()
        assert current_context(library) == before
assert asked == ["bn_relu_float32"] * 2, asked

library.cuCtxSetCurrent(contexts[1])
use(2)
text = error_of(bn_relu)
assert "looking up CUDA device 2" in text and "CUDA_ERROR_INVALID_DEVICE (101)" in text, text
assert current_context(library) == contexts[1].value
""")


def test_threads_without_a_context() -> None:
    """As autograd's are: work in them leaves no context behind. The image is loaded while several wait for it."""
    run("""
library = emulate()
failures = []

def work():
    try:
        for _ in range(3):
            assert current_context(library) is None
            bn_relu()
        assert current_context(library) is None
    except BaseException as error:
        failures.append(error)

threads = [threading.Thread(target=work) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join(60)
    assert not thread.is_alive()
assert not failures, failures
""")


@pytest.mark.parametrize("allow_tf32", [False, True])
def test_tf32_only_where_torch_allows_it(allow_tf32: bool) -> None:
    """The product of float32 runs on tensor cores if convolutions of torch may."""
    kernel = "bn_relu_conv1x1_forward_tensor_float32" if allow_tf32 else "bn_relu_conv1x1_forward_float32"
    run(f"""
def meta(channels):
    return torch.empty(1, channels, 4, 4, device="meta").to(memory_format=torch.channels_last)

torch.backends.cudnn.allow_tf32 = {allow_tf32}
norm = Norm(*torch.zeros(3, 8, device="meta"))
with backend.using(backend.RecordedCuda(80, 108)) as recorded:
    bn_relu_conv1x1_forward(meta(8), norm, torch.zeros(40, 8, 1, 1, device="meta"), meta(40))
(record,) = recorded.take_records()
assert record.kernel == {kernel!r}, record.kernel
""")


def test_kernels_are_loaded_with_their_image() -> None:
    """By a driver that can list them; so none is loaded later, inside a capture."""
    run("""
import subprocess
driver = Path(directory.name) / "listing.so"
source = r'''
#include STAND_IN
namespace { int first, second, loaded = 0; }
extern "C" {
int cuModuleGetFunctionCount(unsigned* count, void*) { return *count = 2, 0; }
int cuModuleEnumerateFunctions(void** functions, unsigned, void*) {
  return functions[0] = &first, functions[1] = &second, 0;
}
int cuFuncGetName(const char** name, void* function) {
  return *name = function == &first ? "bn_relu_forward_float32" : "bn_relu_backward_float32", 0;
}
int cuFuncLoad(void*) { return ++loaded, 0; }
int loaded_functions() { return loaded; }
}'''
stand_in = Path(emulation.__file__).resolve().parents[2] / "benchmarks" / "stand_in_driver.cpp"
command = ["g++", "-std=c++17", "-shared", "-fPIC", f'-DSTAND_IN="{stand_in}"', "-x", "c++", "-", "-o", str(driver)]
subprocess.run(command, input=source.encode(), check=True)
backend.use(backend.EmulatedCuda(str(driver), lambda *image: b"image"))
library = ctypes.CDLL(str(driver))
x = torch.zeros(1, 4, 2, 2).contiguous(memory_format=torch.channels_last)
norm = Norm(torch.zeros(4), torch.ones(4), torch.zeros(4))
bn_relu_forward(x, norm, torch.empty_like(x))
assert library.loaded_functions() == 2
bn_relu_backward(x, x, norm, torch.empty_like(x))
assert library.loaded_functions() == 4  # and the image that adds up the sums
""")
