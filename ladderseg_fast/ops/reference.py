"""Every operator in plain PyTorch.

One function per operator, with the operator's name and signature, differentiable by autograd. The operator's file
defines it (registration.reference_of). The tests compare with these functions; memory="plain" computes
its loss and its labels with them.

In all functions mean, invstd, gamma and beta are [C]; gamma None means 1, and beta None means 0. Beside maps of 16-bit
elements they are float32, and arithmetic is in float32 wherever it is in nn.BatchNorm2d.
"""

from typing import TYPE_CHECKING, Any

__all__: list[str] = []

if TYPE_CHECKING:

    def __getattr__(name: str) -> Any: ...
