"""The dense block: all layers write into one buffer (ALGORITHMS.md section 1)."""

from collections.abc import Sequence
from typing import Any, Protocol

from ..passes import BackwardPass, ForwardPass
from .bottleneck import Bottleneck
from .stage import Repeatable, Stage


class Layers(Protocol):
    """A module such as nn.DenseBlock, with layers that have the modules of nn.DenseLayer."""

    @property
    def layers(self) -> Sequence[Any]:
        """Layers in the order of the forward pass."""


class DenseBlockStage(Stage, Repeatable):
    """Layers [start, stop) of `block` on the feature `name`, whose first channels an earlier stage has written."""

    def __init__(self, block: Layers, name: str, start: int = 0, stop: int | None = None) -> None:
        self.layers = [Bottleneck.of(layer, name) for layer in block.layers[start:stop]]
        self.reads = self.keeps = (name,)
        self.writes = name
        self.modules = tuple(module for layer in self.layers for module in layer.modules)
        self.forward_weights = tuple(use for layer in self.layers for use in layer.forward_weights)
        self.backward_weights = tuple(use for layer in reversed(self.layers) for use in layer.backward_weights)

    def forward(self, step: ForwardPass) -> None:
        feature = step.features[self.writes]
        for layer in self.layers:
            layer.forward(step, feature, feature, first=layer.norm1.num_features)

    def forward_again(self, step: BackwardPass) -> None:
        for layer in self.layers:
            layer.forward_again(step, step.features[self.writes])

    def backward(self, step: BackwardPass) -> None:
        gradient = step.gradient_of(self.writes)
        for layer in reversed(self.layers):
            first = layer.norm1.num_features
            layer.backward(step, self.writes, gradient.corrected(first, first + layer.conv2.out_channels))
