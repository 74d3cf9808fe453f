"""The bytes and operations of benchmarks/roofline.py: by hand, and by the emulator of the device."""

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from emulator.process import run_code
from support.processes import run_script
from torch import nn

from ladderseg_fast.ops import layout
from ladderseg_fast.ops.arguments import Norm
from ladderseg_fast.ops.bn_relu_conv1x1 import bn_relu_conv1x1_forward

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"

#: Of the float32 step; `_narrow` is the one to few channels, `_small` the one for small maps.
KERNELS = {
    "affine_correction",
    "batch_norm_backward",
    "batch_norm_forward",
    "bn_relu_avgpool2_backward",
    "bn_relu_avgpool2_forward",
    "bn_relu_conv1x1_backward",
    "bn_relu_conv1x1_data",
    "bn_relu_conv1x1_forward",
    "bn_relu_conv1x1_forward_narrow",
    "bn_relu_conv1x1_weight",
    "bn_relu_conv3x3_data",
    "bn_relu_conv3x3_data_small",
    "bn_relu_conv3x3_forward",
    "bn_relu_conv3x3_forward_small",
    "bn_relu_conv3x3_weight",
    "bn_relu_forward",
    "bn_relu_maxpool_backward",
    "bn_relu_maxpool_forward",
    "bn_sums",
    "channel_statistics",
    "cross_entropy_19",
    "label_sums",
    "label_totals",
    "loss",
    "merge_statistics",
    "prepare_weights",
    "stem_convolution_forward",
    "stem_convolution_weight",
    "sum_parts",
    "sum_weight_parts",
    "upsample_backward",
    "upsample_forward",
}


@pytest.fixture(scope="module")
def roofline() -> Iterator[SimpleNamespace]:
    """The benchmark's modules."""
    sys.path.insert(0, str(BENCHMARKS))
    try:
        yield SimpleNamespace(**{name: importlib.import_module(f"roofline_{name}") for name in ("counts", "devices")})
    finally:
        sys.path.remove(str(BENCHMARKS))


@pytest.fixture
def counter(roofline: SimpleNamespace):
    return roofline.counts.Counter(roofline.devices.DEVICES["GTX 1070"])


def on_meta(n: int, c: int, h: int, w: int) -> torch.Tensor:
    like = torch.empty(0, device="meta")
    return layout.empty(like, n, c, h, w)


def norm_on_meta(channels: int) -> Norm:
    return Norm(*torch.empty(3, channels, device="meta"))


def test_every_kernel_of_the_step_is_counted(roofline: SimpleNamespace) -> None:
    works = roofline.counts.lean_step(roofline.devices.DEVICES["GTX 1070"], torch.float32, "densenet121", 2, (256, 256))
    assert {work.name for work in works if not work.name.startswith("torch: ")} == KERNELS
    products = sum(work.operations for work in works if "conv" in work.name)
    assert products == pytest.approx(2.1e12 * 256 * 256 / (1024 * 2048), rel=0.1)


def test_products_go_to_the_tensor_cores_where_there_are_some(roofline: SimpleNamespace) -> None:
    def by_tensor_cores(name: str, dtype: torch.dtype, allow_tf32: bool = False) -> set[str]:
        step = roofline.devices.DEVICES[name], dtype, "densenet121", 2, (64, 64), allow_tf32
        return {work.name for work in roofline.counts.lean_step(*step) if work.by_tensor_cores}

    expected = {"bn_relu_conv1x1_forward_tensor", "bn_relu_conv3x3_data_tensor", "bn_relu_conv3x3_weight_tensor"}
    assert by_tensor_cores("RTX 3060", torch.float16) > expected
    assert by_tensor_cores("RTX 3060", torch.float32, allow_tf32=True) > expected
    assert by_tensor_cores("RTX 3060", torch.float32) == set()
    assert by_tensor_cores("GTX 1070", torch.float16) == set()


def test_a_launch_of_ours_moves_its_buffers_once(counter) -> None:
    x, out = on_meta(2, 24, 8, 4)[:, :16], on_meta(2, 32, 8, 4)
    with counter:
        bn_relu_conv1x1_forward(x, norm_on_meta(16), torch.empty(32, 16, 1, 1, device="meta"), out)
    (work,) = counter.works
    assert work.name == "bn_relu_conv1x1_forward_narrow"
    pixels = 2 * 8 * 4
    assert work.read_bytes == 4 * (pixels * 16 + 3 * 16 + 32 * 16)
    assert work.written_bytes == 4 * pixels * 32
    assert work.operations == 2 * pixels * 16 * 32


def test_batch_norm_reads_twice(counter) -> None:
    norm = nn.BatchNorm2d(16, device="meta")
    x = on_meta(2, 16, 8, 4).requires_grad_()
    with counter:
        norm(x).backward(torch.empty_like(x))
    map_bytes, vector_bytes = 4 * x.numel(), 4 * 16
    forward, backward = (work for work in counter.works if "batch_norm" in work.name)
    assert forward.read_bytes == 2 * map_bytes + 4 * vector_bytes  # weight, bias and running statistics
    assert forward.written_bytes == map_bytes + 2 * vector_bytes
    assert backward.read_bytes == 4 * map_bytes + 5 * vector_bytes
    assert backward.written_bytes == map_bytes + 2 * vector_bytes


def test_batch_norm_in_evaluation_reads_once(counter) -> None:
    norm = nn.BatchNorm2d(16, device="meta").eval()
    with counter, torch.no_grad():
        norm(on_meta(2, 16, 8, 4))
    read = sum(work.read_bytes for work in counter.works if "batch_norm" in work.name)
    assert read == 4 * (2 * 16 * 8 * 4 + 4 * 16)


def test_a_convolution_is_a_kernel_forward_and_two_backward(counter) -> None:
    conv = nn.Conv2d(16, 32, 3, padding=1, bias=False, device="meta").to(memory_format=torch.channels_last)
    x = on_meta(2, 16, 8, 4).requires_grad_()
    with counter:
        y = conv(x)
        y.backward(torch.empty_like(y))
    x_bytes, y_bytes, weight_bytes = (4 * tensor.numel() for tensor in (x, y, conv.weight))
    found = {work.name: (work.read_bytes, work.written_bytes, work.operations) for work in counter.works}
    operations = 2 * 2 * 8 * 4 * 16 * 32 * 9
    assert found == {
        "torch: convolution": (x_bytes + weight_bytes, y_bytes, operations),
        "torch: convolution, data gradient": (y_bytes + weight_bytes, x_bytes, operations),
        "torch: convolution, weight gradient": (y_bytes + x_bytes, weight_bytes, operations),
    }


def test_what_is_not_dense_is_copied_before_a_convolution(counter) -> None:
    part, weight = on_meta(2, 24, 8, 4)[:, :16], on_meta(32, 16, 3, 3)
    with counter:
        torch.nn.functional.conv2d(part, weight)
    copy, convolution = counter.works
    assert copy.name == "torch: copy for a convolution"
    assert copy.read_bytes == copy.written_bytes == 4 * part.numel()
    assert convolution.read_bytes == 4 * (part.numel() + weight.numel())


def test_operators_of_torch_move_each_byte_once(counter) -> None:
    x, y = on_meta(2, 16, 8, 4), on_meta(2, 16, 8, 4)
    row = torch.empty(1, 16, 1, 1, device="meta").expand(2, 16, 8, 4)
    size = 4 * x.numel()
    with counter:
        x.add_(y)
        x.copy_(y)
        x.zero_()
        torch.cat([x, y], dim=1)
        x + row
        x * x
        torch.empty_like(x)[:, :4].detach()
    found = [(work.name.removeprefix("torch: "), work.read_bytes, work.written_bytes) for work in counter.works]
    assert found == [
        ("add_", 2 * size, size),
        ("copy_", size, size),
        ("zero_", 0, size),
        ("cat", 2 * size, 2 * size),
        ("add", size + 4 * 16, size),
        ("mul", size, size),
    ]


def test_the_floor_is_the_slower_of_memory_and_arithmetic(roofline: SimpleNamespace) -> None:
    device = roofline.devices.DEVICES["RTX 4090"]
    assert device.floor(1008e9, 1.0, torch.float32, False) == 1.0
    assert device.floor(1.0, 82.6e12, torch.float32, False) == 1.0
    assert device.floor(1.0, 165.2e12, torch.float16, True) == 1.0


def test_ours_moves_a_third_of_what_plain_moves(roofline: SimpleNamespace) -> None:
    step = roofline.devices.DEVICES["GTX 1070"], torch.float32, "densenet121", 2, (1024, 2048)
    ours, plain = (
        sum(work.moved_bytes for work in count(*step))
        for count in (roofline.counts.lean_step, roofline.counts.plain_step)
    )
    assert ours < plain / 3


@pytest.mark.slow
def test_the_report_has_all_devices(roofline: SimpleNamespace) -> None:
    finished = run_script(BENCHMARKS / "roofline.py", *"--size 64x64 --dtype float16".split())
    assert finished.returncode == 0, finished.stderr
    text = finished.stdout
    assert text.startswith("## LDN-121, 2 x 64x64, float16\n")
    for name in roofline.devices.DEVICES:
        assert f"\n| {name} " in text
    assert "\n| bn_relu_conv1x1_forward " in text and "\n| DenseBlock db1, backward " in text


#: Prints, by name of a kernel's launch, [bytes read, written] as recorded and as the emulator counts them.
EMULATED = """
import ctypes, json, torch
from emulator.device import EmulatorTraffic
from emulator.emulation import emulated
from emulator.library import build_library
from ladderseg_fast import _core
from ladderseg_fast.ops import layout
from ladderseg_fast.ops.affine_correction import affine_correction
from ladderseg_fast.ops.arguments import Correction, Gradient, Norm
from ladderseg_fast.ops.backend import use
from ladderseg_fast.ops.bn_relu import bn_relu_forward
from ladderseg_fast.ops.bn_relu_conv1x1 import bn_relu_conv1x1_forward
from ladderseg_fast.ops.bn_relu_conv3x3 import bn_relu_conv3x3_forward
from ladderseg_fast.ops.upsample import upsample_backward

use(emulated("sm_80"))
emulator = ctypes.CDLL(str(build_library()))
emulator.emulator_count(1)
like = torch.empty(0)

def aligned(n, c, h, w):
    memory = torch.randn(n * c * h * w + 32)
    memory = memory[-memory.data_ptr() % 128 // 4:][: n * c * h * w]
    return memory.view(n, h, w, c).permute(0, 3, 1, 2)

x = aligned(2, 96, 12, 10)[:, :64]
norm = Norm(*(aligned(1, 64, 1, 1).flatten() for _ in range(3)))
fine, coarse = aligned(2, 32, 12, 10), aligned(2, 32, 6, 5)
gradient = Gradient(aligned(2, 64, 12, 10), x, Correction(norm.mean, norm.scale, norm.shift))
calls = {
    "bn_relu_forward_float32": lambda: bn_relu_forward(x, norm, aligned(2, 64, 12, 10)),
    "bn_relu_conv1x1_forward_float32": lambda: bn_relu_conv1x1_forward(
        x, norm, aligned(40, 64, 1, 1), aligned(2, 40, 12, 10)),
    "bn_relu_conv3x3_forward_small_float32": lambda: bn_relu_conv3x3_forward(
        x, norm, aligned(24, 64, 3, 3), 2, aligned(2, 24, 12, 10)),
    "upsample_backward_float32": lambda: upsample_backward(fine, coarse),
    "affine_correction_float32": lambda: affine_correction(gradient, gradient.grad),
}
found = {}
for name, call in calls.items():
    _core.cuda_start_recording(80, 2)
    call()
    *_, record = _core.cuda_stop_recording()  # the one before, if there is one, prepares the weight
    call()
    traffic = EmulatorTraffic()
    emulator.emulator_traffic(ctypes.byref(traffic))
    found[record.kernel] = [
        [record.read_bytes, record.written_bytes], [traffic.read_bytes_distinct, traffic.written_bytes_distinct]]
    assert record.kernel == name, record.kernel
print(json.dumps(found))
"""


def test_the_emulator_counts_the_same_bytes() -> None:
    found = json.loads(run_code(EMULATED).splitlines()[-1])
    assert len(found) == 5
    for kernel, (recorded, emulated) in found.items():
        assert recorded == emulated, kernel
