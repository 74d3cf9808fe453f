"""The transition up: of its own it keeps nothing (ALGORITHMS.md section 5)."""

from torch import Tensor

from ...nn import TransitionUp
from ...ops import kernels
from .. import conv3x3
from ..batch_norm import uses_batch_statistics
from ..passes import BackwardPass, ForwardPass
from .bottleneck import accumulate_conv1x1
from .stage import Stage


class TransitionUpStage(Stage):
    """`up` from features `coarse` and `skip` to feature `target`."""

    def __init__(self, up: TransitionUp, coarse: str, skip: str, target: str) -> None:
        self.up = up
        self.reads = self.keeps = (coarse, skip)
        self.writes = target
        self.modules = (up.skip_norm, up.skip_conv, up.norm, up.conv)

    def forward(self, step: ForwardPass) -> None:
        coarse, skip = (step.features[name] for name in self.reads)
        up = self.up
        skip_bound = step.bind_to_feature(up.skip_norm, skip, up.skip_norm.num_features)
        both, statistics = self._upsample_project_concat(step, skip_bound.norm, uses_batch_statistics(up.norm))
        bound = step.bind(up.norm, statistics, skip.positions, both.dtype)
        n, _, h, w = skip.data.shape
        target = step.new_feature(self.writes, coarse.data, n, up.conv.out_channels, h, w)
        conv3x3.forward(both, bound.norm, step.parameter(up.conv), 1, target.data, step.plan, step.workspace)

    def backward(self, step: BackwardPass) -> None:
        up = self.up
        grad_both = self._backward_blend(step)
        coarse_gradient = step.gradient_of(self.reads[0])
        upsampled = up.norm.num_features - up.skip_conv.out_channels
        if coarse_gradient is not None:
            grad_coarse = step.workspace.take(grad_both, *coarse_gradient.data.shape)
            kernels.upsample_backward(grad_both[:, :upsampled], grad_coarse)
            coarse_gradient.data += grad_coarse
        accumulate_conv1x1(step, self.reads[1], up.skip_norm, up.skip_conv, grad_both[:, upsampled:])

    def _backward_blend(self, step: BackwardPass) -> Tensor:
        """Backward of BN - ReLU - conv 3x3: the gradient of the concatenation, which is made again for it."""
        up = self.up
        bound = step.norms[up.norm]
        both, _ = self._upsample_project_concat(step, step.norms[up.skip_norm].norm, False)
        grad_both = step.workspace.take(both, *both.shape)
        grad_weight, sums = conv3x3.backward(
            step.gradient_of(self.writes).corrected(0, up.conv.out_channels),
            both,
            bound.norm,
            step.parameter(up.conv),
            1,
            grad_both,
            step.wants(up.conv),
            step.plan,
            step.workspace,
        )
        step.add_gradient(up.conv, grad_weight)
        step.add_norm_gradients(up.norm, sums)
        bound.correct(both, grad_both, sums)
        return grad_both

    def _upsample_project_concat(
        self, step: ForwardPass | BackwardPass, norm: kernels.Norm, statistics: bool
    ) -> tuple[Tensor, tuple[Tensor, Tensor] | None]:
        coarse, skip = (step.features[name].data for name in self.reads)
        n, _, h, w = skip.shape
        both = step.workspace.take(skip, n, self.up.norm.num_features, h, w)
        weight = step.parameter(self.up.skip_conv)
        return both, kernels.upsample_project_concat_forward(coarse, skip, norm, weight, both, statistics)
