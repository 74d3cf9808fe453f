"""The levels of spatial pyramid pooling, which are small enough for torch's own operators and autograd."""

import torch
from torch import Tensor

from ...nn import PyramidContext
from ...nn.pyramid_context import pyramid_levels
from ...ops import layout
from ...ops.affine_correction import write
from ...ops.bn_relu import bn_relu_backward, bn_relu_forward
from ..passes import BackwardPass, ForwardPass
from .stage import Stage


class PyramidStage(Stage):
    """Copy of feature `source`, the hidden map of `context`, to the first channels of `target`; its levels follow."""

    def __init__(self, context: PyramidContext, source: str, target: str) -> None:
        self.norm, self.levels = context.norm2, context.levels
        self.channels = context.norm3.num_features
        self.reads = self.keeps = (source,)
        self.writes = target
        self.modules = (self.norm, *self.levels)

    def forward(self, step: ForwardPass) -> None:
        source = step.features[self.reads[0]]
        step.bind_to_feature(self.norm, source, self.norm.num_features)
        n, c, h, w = source.data.shape
        target = step.new_feature(self.writes, n, self.channels, h, w, spread=True)
        target.channels(c).copy_(source.data)
        if source.known_statistics is not None:
            target.set_statistics(0, source.known_statistics)
        levels = pyramid_levels(self._rectified(step, source.data), self._weights(step, source.data))
        target.data[:, c:].copy_(torch.cat(levels, dim=1))

    def backward(self, step: BackwardPass) -> None:
        source = step.features[self.reads[0]]
        n, c, h, w = source.data.shape
        gradient = step.gradient_of(self.writes).corrected(0, self.channels)
        grad = write(gradient, layout.empty(source.data, n, self.channels, h, w))
        rectified = self._rectified(step, source.data).requires_grad_()
        weights = [weight.detach().requires_grad_() for weight in self._weights(step, source.data)]
        with torch.enable_grad():
            levels = pyramid_levels(rectified, weights)
        grad_levels = grad[:, c:].split([level.shape[1] for level in levels], dim=1)
        grad_rectified, *grad_weights = torch.autograd.grad(levels, [rectified, *weights], grad_levels)
        for level, grad_weight in zip(self.levels, grad_weights, strict=True):
            step.add_gradient(level, grad_weight)
        target = step.gradient_to_add_to(self.reads[0])
        if target is None:  # only the sums are needed, not the values written
            data = grad[:, :c]
        else:
            data = target.data
            data += grad[:, :c]
        bound = step.norms[self.norm]
        grad_rectified = layout.pixel_major(grad_rectified)
        sums = bn_relu_backward(grad_rectified, source.data, bound.norm, data, accumulate=True)
        step.finish_norm_of(source, self.norm, sums, target)

    def _rectified(self, step: ForwardPass | BackwardPass, x: Tensor) -> Tensor:
        out = layout.empty(x, *x.shape)
        bn_relu_forward(x, step.norms[self.norm].norm, out)
        return out

    def _weights(self, step: ForwardPass | BackwardPass, x: Tensor) -> list[Tensor]:
        return [step.weight(level).to(x.dtype) for level in self.levels]
