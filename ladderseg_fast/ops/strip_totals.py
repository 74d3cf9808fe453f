"""Sums over the strips of a map: the gradient of a weight, and the sums of a batch norm."""

from torch import Tensor

from .arguments import BnSums


class StripTotals:
    """The gradient of a weight and the sums of a batch norm, over the strips so far."""

    def __init__(self) -> None:
        self.grad_weight: Tensor | None = None
        self._sums: BnSums | None = None

    def add(self, sums: BnSums, grad_weight: Tensor | None = None) -> None:
        """Adds a strip's part in place; the tensors passed may become the totals."""
        self._sums = sums.plus(self._sums)
        if grad_weight is not None:
            self.grad_weight = grad_weight if self.grad_weight is None else self.grad_weight.add_(grad_weight)

    @property
    def sums(self) -> BnSums:
        """Sums over all strips, at least one."""
        assert self._sums is not None
        return self._sums
