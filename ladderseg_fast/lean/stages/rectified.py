"""BN - ReLU of a feature, for readers outside of the program."""

from ...ops.bn_relu import bn_relu_backward, bn_relu_forward
from ..joint_batch import BatchNorm
from ..passes import BackwardPass, ForwardPass
from .stage import Stage


class RectifiedStage(Stage):
    """`norm` and ReLU from feature `source` to feature `target`, an output of the program that no stage reads.

    A stage before this one may have normalised `source` with the same `norm`. Batch norm's gradients are sums over its
    readers, so each reader adds its own.
    """

    def __init__(self, norm: BatchNorm, source: str, target: str) -> None:
        self.norm = norm
        self.reads = self.keeps = (source,)
        self.writes = target
        self.modules = (norm,)

    def forward(self, step: ForwardPass) -> None:
        source = step.features[self.reads[0]]
        # A second binding would update the running statistics twice.
        bound = step.norms.get(self.norm) or step.bind_to_feature(self.norm, source, self.norm.num_features)
        bn_relu_forward(source.data, bound.norm, step.new_feature(self.writes, *source.data.shape).data)

    def backward(self, step: BackwardPass) -> None:
        source = step.features[self.reads[0]]
        grad = step.gradient_of(self.writes).data
        target, accumulate = step.gradient_for(self.reads[0], source.data.shape[1])
        if target is None:  # only the sums are needed, not the values written
            rows = step.workspace.take(source.data, *source.data.shape)
        else:
            rows = target.data
        sums = bn_relu_backward(grad, source.data, step.norms[self.norm].norm, rows, accumulate and target is not None)
        step.finish_norm_of(source, self.norm, sums, target)
