"""The stem: conv 7x7/2 - BN - ReLU - maxpool 3x3/2 (ALGORITHMS.md section 5).

Only the image is kept. The convolution's output, the largest map of the network, is computed a few rows at a time
whenever it is needed: once in forward, and in backward for the sums of batch norm and for the weight gradient.
"""

import torch
from torch import Tensor, nn

from ...ops.affine_correction import write
from ...ops.arguments import Correction, Gradient
from ...ops.backend import real_dtype
from ...ops.bn_relu import bn_relu_forward
from ...ops.stem import stem_backward_images, stem_backward_sums, stem_backward_weight, stem_forward
from ..batch_norm import uses_batch_statistics
from ..joint_batch import BatchNorm
from ..passes import BackwardPass, ForwardPass
from ..weights import Form, WeightUse
from .stage import Repeatable, Size, Stage


class StemStage(Stage, Repeatable):
    """`conv`, `norm`, ReLU and pooling from feature `source` (images) to the first channels of `target`."""

    any_strides = True

    def __init__(self, conv: nn.Conv2d, norm: BatchNorm, source: str, target: str, channels: int) -> None:
        self.conv, self.norm = conv, norm
        self.channels = channels
        self.reads = self.keeps = (source,)
        self.writes = target
        self.modules = (conv, norm)
        self.forward_weights = self.backward_weights = (WeightUse(conv, Form.plain),)

    def size(self, *sources: Size) -> Size:
        height, width = sources[-1]
        return (height + 3) // 4, (width + 3) // 4

    def forward(self, step: ForwardPass) -> None:
        images = step.features[self.reads[0]].data
        weight = step.weights.plain(self.conv)
        n, _, h, w = images.shape
        target = step.new_feature(self.writes, n, self.channels, (h + 3) // 4, (w + 3) // 4, spread=True)
        out = target.channels(weight.shape[0])
        positions = n * ((h + 1) // 2) * ((w + 1) // 2)
        if uses_batch_statistics(self.norm):
            gamma = step.parameter(self.norm)
            signs = _signs(gamma, weight, images)
            statistics = stem_forward(images, weight, signs, None, out, statistics=True)
            bound = step.bind(self.norm, statistics, positions, images.dtype)
            bn_relu_forward(out, bound.norm, out)
        else:
            bound = step.bind(self.norm, None, positions, images.dtype)
            stem_forward(images, weight, bound.norm.scale, bound.norm, out)

    def forward_again(self, step: BackwardPass) -> None:
        images, norm = step.features[self.reads[0]].data, step.norms[self.norm].norm
        weight = step.weights_again.plain(self.conv)
        out = step.new_feature(self.writes).channels(weight.shape[0])
        stem_forward(images, weight, norm.scale, norm, out)

    def backward(self, step: BackwardPass) -> None:
        images = step.features[self.reads[0]].data
        weight = step.weights.plain(self.conv)
        bound = step.norms[self.norm]
        grad = step.gradient_of(self.writes).corrected(0, weight.shape[0])
        grad = Gradient(write(grad, grad.grad))  # once, for all that read it
        sums = stem_backward_sums(grad, images, weight, bound.norm)
        correction = step.finish_norm(self.norm, sums)
        if correction is None:  # frozen batch norm; the kernels need one all the same
            correction = Correction.zeros(weight.shape[0], bound.norm.mean.dtype, weight.device)
        if step.wants(self.conv):
            step.add_gradient(self.conv, stem_backward_weight(grad, images, weight, bound.norm, correction))
        target = step.gradient_to_add_to(self.reads[0])
        if target is not None:
            stem_backward_images(grad, images, weight, bound.norm, correction, target.data)


def _signs(gamma: Tensor | None, weight: Tensor, images: Tensor) -> Tensor:
    """Vector [K] with the signs of batch norm's scale."""
    signs = torch.ones_like(weight[:, 0, 0, 0]) if gamma is None else gamma.contiguous()
    return signs.to(real_dtype(images.dtype))
