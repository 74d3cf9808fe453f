"""What kernels do, and how long that takes on a machine of which some rates are known.

The cost model, in docs/memory.md: a kernel takes max(operations / rate of its kind, bytes / bandwidth) + call, or the
largest of the three where the host does not wait for it.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from torch import Tensor

from ..lean import MemoryPlan

#: Multiplications and additions per weight and output pixel: 2, and 4/9 of nine times that by Winograd's filtering.
_CONV1X1, _CONV3X3 = 2.0, 8.0

#: Operations per class and label of the upsampled cross entropy with its gradient: mostly an exponential.
_CROSS_ENTROPY = 50.0

#: Share of a step's time that maps without room between their pixels cost on the CPU (benchmarks/NOTES.md).
_CLOSE_PIXELS = 0.06


def slowness(plan: MemoryPlan) -> float:
    """By how much everything takes longer with `plan`, whatever it does."""
    return 1.0 if plan.spread else 1.0 + _CLOSE_PIXELS


@dataclass(frozen=True)
class Work:
    """What one call of a kernel does: a kind of Rates, the operations of its products, and the bytes of its maps."""

    kind: str
    operations: float
    bytes: int
    result: int
    """Bytes of the map that a 1x1 convolution's forward writes, with the room between its pixels; else 0."""
    channels: int
    """That it reads; else 0."""


@dataclass(frozen=True)
class Rates:
    """Of one machine: operations a second by kind of kernel, bytes a second, and seconds that a call takes besides."""

    conv1x1_forward: float
    conv1x1_backward: float
    conv3x3_forward: float
    conv3x3_backward: float
    stem: float
    cross_entropy: float
    bandwidth: float
    call: float
    asynchronous: bool = False
    """Whether the host goes on while a kernel runs: its own time counts only where that is longer."""
    source: str = "defaults"
    """Where they are from, for people."""

    @staticmethod
    def default(device_type: str, threads: int) -> "Rates":
        """For a machine that nobody has measured: that of benchmarks/NOTES.md, or a GPU of 2017."""
        if device_type == "cuda":
            return Rates(*[6e12] * 6, bandwidth=250e9, call=200e-6, asynchronous=True, source="defaults for a GPU")
        rates = (rate * threads for rate in (86e9, 95e9, 82e9, 81e9, 85e9, 20e9))
        return Rates(*rates, bandwidth=10e9, call=150e-6, source=f"defaults for {threads} threads")

    def seconds(self, work: Work) -> float:
        """How long `work` takes."""
        products = work.operations / getattr(self, work.kind) if work.operations else 0.0
        kernel = max(products, work.bytes / self.bandwidth)
        return max(kernel, self.call) if self.asynchronous else kernel + self.call

    def step_seconds(self, works: Iterable[Work], plan: MemoryPlan) -> float:
        """How long a step with `plan` takes, which does `works`."""
        return slowness(plan) * sum(self.seconds(work) for work in works)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def work_of(kernel: str, arguments: dict[str, Any]) -> Work:
    """What a call of ops.kernels' function `kernel` does."""
    moved = sum(map_size(value) for value in arguments.values())
    kind, operations = _products(kernel, arguments)
    if kernel != "bn_relu_conv1x1_forward":
        return Work(kind, operations, moved, 0, 0)
    out = arguments["out"]
    result = max(out.stride(3), out.shape[1]) * _pixels(out) * out.element_size()
    return Work(kind, operations, moved, result, arguments["x"].shape[1])


def _products(kernel: str, arguments: dict[str, Any]) -> tuple[str, float]:
    weight = arguments.get("weight")
    passes = 1 + arguments.get("want_weight", True)
    if kernel == "bn_relu_conv1x1_forward":
        return "conv1x1_forward", _CONV1X1 * weight.numel() * _pixels(arguments["x"])
    if kernel == "bn_relu_conv1x1_backward":
        return "conv1x1_backward", _CONV1X1 * passes * weight.numel() * _pixels(arguments["x"])
    if kernel == "bn_relu_conv3x3_forward":
        return "conv3x3_forward", _CONV3X3 * weight.numel() / 9 * _pixels(arguments["out"])
    if kernel == "bn_relu_conv3x3_backward":
        return "conv3x3_backward", _CONV3X3 * passes * weight.numel() / 9 * _pixels(arguments["grad_x"])
    if kernel.startswith("stem_"):
        passes = 2 if kernel == "stem_backward_weight" else sum(arguments.get("wanted", (True,)))
        return "stem", 2.0 * passes * weight.numel() * _pixels(arguments["images"]) / 4
    if kernel == "upsample_cross_entropy":
        return "cross_entropy", _CROSS_ENTROPY * arguments["labels"].numel() * arguments["logits"].shape[1]
    return "conv1x1_forward", 0.0


def _pixels(x: Tensor) -> int:
    n, _, h, w = x.shape
    return n * h * w


def map_size(value: Any) -> int:
    """Bytes of a map, or of the two of a corrected gradient; 0 for what is neither."""
    if isinstance(value, Tensor):
        return value.numel() * value.element_size() if value.dim() >= 3 else 0
    grad, x = getattr(value, "grad", None), getattr(value, "x", None)
    return sum(map_size(part) for part in (grad, x) if part is not None)
