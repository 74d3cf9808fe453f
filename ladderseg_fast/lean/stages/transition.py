"""The transition down, with the pooling before the product: they commute (ALGORITHMS.md section 5)."""

import torch
from torch import Tensor

from ...nn import Transition
from ...ops import kernels
from ...ops.layout import pixel_rows
from ..feature import write
from ..passes import BackwardPass, ForwardPass
from ..workspace import Workspace
from .stage import Stage


class TransitionStage(Stage):
    """`transition` from feature `source` to the first channels of feature `target`, which it makes `channels` wide."""

    def __init__(self, transition: Transition, source: str, target: str, channels: int) -> None:
        self.norm, self.conv = transition.norm, transition.conv
        self.channels = channels
        self.reads = self.keeps = (source,)
        self.writes = target
        self.modules = (self.norm, self.conv)

    def forward(self, step: ForwardPass) -> None:
        source = step.features[self.reads[0]]
        bound = step.bind_to_feature(self.norm, source, self.norm.num_features)
        pooled = self._pool(source.data, bound.norm, step.workspace)
        n, _, h, w = pooled.shape
        target = step.new_feature(self.writes, source.data, n, self.channels, h, w)
        weight = step.parameter(self.conv).flatten(1)  # [M, C]
        torch.mm(pixel_rows(pooled), weight.t(), out=pixel_rows(target.channels(self.conv.out_channels)))

    def backward(self, step: BackwardPass) -> None:
        source = step.features[self.reads[0]]
        bound = step.norms[self.norm]
        pooled = self._pool(source.data, bound.norm, step.workspace)
        n, _, h, w = pooled.shape
        grad = step.workspace.take(pooled, n, self.conv.out_channels, h, w)
        write(step.gradient_of(self.writes).corrected(0, self.conv.out_channels), grad)
        weight = step.parameter(self.conv)
        if step.wants(self.conv):
            step.add_gradient(self.conv, torch.mm(pixel_rows(grad).t(), pixel_rows(pooled)).view_as(weight))
        grad_pooled = step.workspace.take(pooled, *pooled.shape)
        torch.mm(pixel_rows(grad), weight.flatten(1), out=pixel_rows(grad_pooled))
        target = step.gradient_of(self.reads[0])
        accumulate = target is not None
        grad_source = target.data if accumulate else step.workspace.take(source.data, *source.data.shape)
        sums = kernels.bn_relu_avgpool2_backward(grad_pooled, source.data, bound.norm, grad_source, accumulate)
        step.add_norm_gradients(self.norm, sums)
        if target is not None:
            target.defer(bound, sums)

    def _pool(self, x: Tensor, norm: kernels.Norm, workspace: Workspace) -> Tensor:
        n, c, h, w = x.shape
        pooled = workspace.take(x, n, c, h // 2, w // 2)
        kernels.bn_relu_avgpool2_forward(x, norm, pooled)
        return pooled
