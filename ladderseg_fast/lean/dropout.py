"""Dropout in a lean step: the mask that torch's module would draw, drawn alone."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

#: The modules that are followed.
Dropout = nn.Dropout | nn.Dropout2d


@dataclass(frozen=True)
class BoundDropout:
    """Dropout as `module` does it in one step.

    module: the key of the mask that backward needs.
    p: the probability of a zero, more than 0.
    """

    module: Dropout
    p: float

    @staticmethod
    def now(module: nn.Module) -> "BoundDropout | None":
        """Dropout as `module` is set at present; None if it changes nothing."""
        if not isinstance(module, Dropout) or not module.training or module.p == 0:
            return None
        return BoundDropout(module, module.p)

    def apply(self, x: Tensor, channels_last: bool) -> Tensor:
        """Multiplies x [N, C, H, W] in place; returns the mask for `apply_again`.

        Torch's generator gives the numbers that it would give to the module, and ends in the same state.

        channels_last: whether the map that the plain module reads is; single elements are drawn in the order of memory.
        """
        n, c, h, w = x.shape
        if isinstance(self.module, nn.Dropout2d):
            factors = self._of_channels(x.new_empty((n, c, 1, 1)))
            x.mul_(factors)
            return factors
        order = torch.channels_last if channels_last else torch.contiguous_format
        ones = torch.empty((n, c, h, w), dtype=x.dtype, device=x.device, memory_format=order).fill_(1)
        factors = F.dropout(ones, self.p)
        x.mul_(factors)
        return factors.ne(0).contiguous(memory_format=torch.channels_last)

    def apply_again(self, x: Tensor, mask: Tensor) -> None:
        """Multiplies x [N, C, H, W], for instance the gradient, by the same factors."""
        x.mul_(mask)
        if mask.dtype == torch.bool and self.p < 1:
            x.mul_(1 / (1 - self.p))

    def _of_channels(self, factors: Tensor) -> Tensor:
        if self.p == 1:
            return factors.zero_()
        return factors.bernoulli_(1 - self.p).div_(1 - self.p)
