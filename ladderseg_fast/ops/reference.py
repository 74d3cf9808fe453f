"""References: every operator in plain PyTorch.

One function per operator, with the operator's name and signature and differentiable by autograd; it is defined in the
operator's file (registration.reference_of). The tests and the benchmarks compare against these; memory="plain" runs
them.

In all of them mean, invstd, gamma and beta are [C]; gamma None stands for 1 and beta None for 0. Beside maps of 16-bit
elements they are float32, and arithmetic is in float32 where nn.BatchNorm2d's is.
"""

from typing import TYPE_CHECKING, Any

__all__: list[str] = []

if TYPE_CHECKING:

    def __getattr__(name: str) -> Any: ...
