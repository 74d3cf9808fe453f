"""Moving average of the weights, which often scores better than the weights themselves."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


class WeightAverage:
    """Exponential moving average of a model's parameters and running statistics.

    Update t = 1, 2, ... is average = d * average + (1 - d) * value with d = min(decay, (1 + t) / (10 + t)), so that the
    first values do not weigh for long (as in TensorFlow's tf.train.ExponentialMovingAverage). Whole numbers are copied.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self.values = {name: value.clone() for name, value in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Adds the model's present values to the average."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        for name, value in model.state_dict().items():
            average = self.values[name]
            if average.is_floating_point():
                average.lerp_(value, 1.0 - decay)
            else:
                average.copy_(value)

    @contextmanager
    def applied_to(self, model: nn.Module) -> Iterator[None]:
        """Puts the averages into the model for the block; afterwards the model has its own values again."""
        self._exchange(model)
        try:
            yield
        finally:
            self._exchange(model)

    def state(self) -> dict[str, Any]:
        """State for a checkpoint, which has the values themselves elsewhere."""
        return {"updates": self.updates}

    def restore(self, values: dict[str, Tensor], state: dict[str, Any]) -> None:
        """Restores `values` and the result of state()."""
        self.updates = state["updates"]
        for name, average in self.values.items():
            average.copy_(values[name])

    @torch.no_grad()
    def _exchange(self, model: nn.Module) -> None:
        for name, value in model.state_dict().items():
            kept = value.clone()
            value.copy_(self.values[name])
            self.values[name].copy_(kept)
