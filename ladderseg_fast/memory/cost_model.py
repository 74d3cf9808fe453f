"""The time that kernels take, computed from a few rates of the machine.

The cost model, in docs/memory.md: a kernel takes max(operations / rate of its kind, bytes / bandwidth) + call, or the
largest of the three if the host does not wait for it.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from ..lean import MemoryPlan
from ..ops.cost import Cost

#: Share of a step's time lost on the CPU if maps have no room between their pixels (benchmarks/NOTES.md).
_CLOSE_PIXELS = 0.06

#: Rates on the CPU for maps of bfloat16, relative to float32's (benchmarks/NOTES.md, "bfloat16 on the CPU"). There, 3x3
#: convolutions take 0.79 of the time for 16/9 of the products. Backward's 1x1 convolutions have a whole step's rate.
_FASTER_IN_BFLOAT16 = {
    "conv1x1_forward": 1.9,
    "conv1x1_backward": 1.5,
    "conv3x3_forward": 2.25,
    "conv3x3_backward": 2.25,
    "stem": 1.55,
}


def slowness(plan: MemoryPlan) -> float:
    """Factor by which every kernel takes longer with `plan`."""
    return 1.0 if plan.spread else 1.0 + _CLOSE_PIXELS


@dataclass(frozen=True)
class Rates:
    """Rates of a machine: operations a second by kind of kernel, bytes a second, and the fixed seconds of a call."""

    conv1x1_forward: float
    conv1x1_backward: float
    conv3x3_forward: float
    conv3x3_backward: float
    stem: float
    cross_entropy: float
    bandwidth: float
    call: float
    asynchronous: bool = False
    """Whether the host goes on while a kernel runs: the fixed time of a call then counts only if it is longer."""
    source: str = "defaults"
    """Origin of the rates, for the user to read."""

    @staticmethod
    def default(device_type: str, threads: int, bfloat16: bool = False) -> "Rates":
        """Rates for an unmeasured machine: the rates of the machine of benchmarks/NOTES.md, or of a GPU of 2017.

        On the CPU, those of maps of `bfloat16` are others.
        """
        if device_type == "cuda":
            each = 6e12
            return Rates(
                each,
                each,
                each,
                each,
                each,
                each,
                bandwidth=250e9,
                call=200e-6,
                asynchronous=True,
                source="defaults for a GPU",
            )
        faster = _FASTER_IN_BFLOAT16 if bfloat16 else dict.fromkeys(_FASTER_IN_BFLOAT16, 1.0)
        return Rates(
            conv1x1_forward=86e9 * threads * faster["conv1x1_forward"],
            conv1x1_backward=95e9 * threads * faster["conv1x1_backward"],
            conv3x3_forward=68e9 * threads * faster["conv3x3_forward"],
            conv3x3_backward=69e9 * threads * faster["conv3x3_backward"],
            stem=85e9 * threads * faster["stem"],
            cross_entropy=20e9 * threads,
            bandwidth=10e9,
            call=150e-6,
            source=f"defaults for {threads} threads" + (" and bfloat16" if bfloat16 else ""),
        )

    def seconds(self, cost: Cost) -> float:
        """Seconds that a call of this cost takes."""
        products = 0.0 if cost.kind is None else cost.operations / getattr(self, cost.kind)
        kernel = max(products, cost.bytes / self.bandwidth)
        return max(kernel, self.call) if self.asynchronous else kernel + self.call

    def step_seconds(self, costs: Iterable[Cost], plan: MemoryPlan) -> float:
        """Seconds that a step with `plan` and these costs of its calls takes."""
        return slowness(plan) * sum(self.seconds(cost) for cost in costs)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Rates":
        """Rates from what to_json returned; TypeError or ValueError if it is something else."""
        rates = cls(**values)
        for field in fields(cls):
            value = getattr(rates, field.name)
            if field.type in (float, "float") and not (type(value) in (int, float) and 0.0 < value < math.inf):
                raise ValueError(f"{field.name} must be a positive number")
        return rates

    def to_json(self) -> dict[str, Any]:
        """Dict of numbers and strings, for JSON."""
        return asdict(self)
