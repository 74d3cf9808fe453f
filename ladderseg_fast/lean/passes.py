"""One forward and one backward pass of a program: the state that its stages share."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from ..ops import layout
from ..ops.arguments import BnSums, Correction, Norm
from ..ops.backend import real_dtype
from .batch_norm import BoundNorm, NormGradients, bind, uses_batch_statistics
from .feature import Feature, FeatureGradient
from .joint_batch import BatchNorm, JointBatch, group_of, joint_statistics
from .plan import MemoryPlan
from .running_norms import RunningNorms
from .weights import PassWeights
from .workspace import Workspace

#: (module, "weight" or "bias")
ParameterKey = tuple[nn.Module, str]
Parameters = dict[ParameterKey, Tensor]


@dataclass
class _Pass:
    """State that the stages of a program share in either direction.

    Parameters are looked up here, not in the modules. So the backward pass reads the very tensors of its forward pass,
    even if the modules have been given others since (as torch.func.functional_call does).
    """

    parameters: Parameters
    plan: MemoryPlan
    workspace: Workspace
    like: Tensor
    """Any tensor of the dtype and device of the features."""
    weights: PassWeights

    def parameter(self, module: nn.Module, name: str = "weight") -> Tensor | None:
        """The parameter `name` of `module`, or None if it has none."""
        return self.parameters.get((module, name))

    def weight(self, convolution: nn.Conv2d) -> Tensor:
        """The weight of a convolution."""
        return self.parameters[convolution, "weight"]

    def identity(self, channels: int) -> Norm:
        """A batch norm that changes nothing."""
        dtype, device = real_dtype(self.like.dtype), self.like.device
        zeros, ones = (self.workspace.constant(value, channels, dtype, device) for value in (0.0, 1.0))
        return Norm(zeros, ones, zeros)


@dataclass
class ForwardPass(_Pass):
    """State that the stages of a program share going forward."""

    running_norms: RunningNorms
    """Batch norms that do not use the statistics of the batch."""
    features: dict[str, Feature]
    outputs: tuple[str, ...]
    keep: bool
    """Whether a backward pass may follow."""
    norms: dict[nn.Module, BoundNorm] = field(default_factory=dict)
    bottlenecks: dict[nn.Module, Tensor] = field(default_factory=dict)
    """Hidden maps of the kept bottlenecks, by their 1x1 convolutions: see SectionPlan.keep_bottlenecks_from. Masks of
    dropouts, by these."""
    _updated: dict[int, nn.Module] = field(default_factory=dict)
    """Batch norm that owns each updated buffer, by the buffer's id."""

    def new_feature(self, name: str, n: int, c: int, h: int, w: int, spread: bool = False) -> Feature:
        """Makes a feature for a stage to write; outputs for the user are not taken from the workspace.

        `spread` is for features of which ranges of channels are read: see Workspace.take.
        """
        if name in self.outputs:
            data = layout.empty(self.like, n, c, h, w)
        else:
            data = self.workspace.take(self.like, n, c, h, w, spread=spread)
        feature = self.features[name] = Feature(data)
        return feature

    def bind_to_feature(self, module: BatchNorm, feature: Feature, channels: int) -> BoundNorm:
        """Binds the batch norm that reads the first `channels` of `feature`."""
        group = group_of(module, feature.data.device)
        if not uses_batch_statistics(module):
            return self._bind_frozen(module, feature.positions)
        if group is None:
            return self._bind(module, feature.statistics(channels), feature.positions, feature.data.dtype)
        statistics, joint = feature.joint_statistics(channels, group)
        return self._bind(module, statistics, feature.positions, feature.data.dtype, joint)

    def bind(self, module: BatchNorm, statistics: Tensor | None, positions: int, dtype: torch.dtype) -> BoundNorm:
        """Binds a batch norm whose input has these batch statistics [2, C] (None: it uses its running statistics).

        They are those of this process; a nn.SyncBatchNorm normalises with those of all.
        """
        if statistics is None:
            return self._bind_frozen(module, positions)
        group = group_of(module, statistics.device)
        if group is None:
            return self._bind(module, statistics, positions, dtype)
        statistics, joint = joint_statistics(statistics, positions, dtype, group)
        return self._bind(module, statistics, positions, dtype, joint)

    def _bind_frozen(self, module: BatchNorm, positions: int) -> BoundNorm:
        norm, invstd = self.running_norms.of(module)
        bound = self.norms[module] = BoundNorm(norm, invstd, positions, batch_statistics=False)
        return bound

    def _bind(
        self,
        module: BatchNorm,
        statistics: Tensor,
        positions: int,
        dtype: torch.dtype,
        joint: JointBatch | None = None,
    ) -> BoundNorm:
        gamma, beta = self.parameter(module), self.parameter(module, "bias")
        if module.training:
            self._check_own_statistics(module)
        bound = self.norms[module] = bind(module, gamma, beta, statistics, positions, dtype, joint)
        return bound

    def _check_own_statistics(self, module: BatchNorm) -> None:
        """Refuses shared running statistics: stages would not update them in the order of the plain modules."""
        for buffer in module._buffers.values():
            if buffer is not None and self._updated.setdefault(id(buffer), module) is not module:
                raise ValueError(
                    f"{module} shares running statistics with another batch norm, "
                    'which memory="lean" would update in another order than memory="plain" does'
                )


@dataclass
class BackwardPass(_Pass):
    """State that the stages of a program share going backward."""

    features: dict[str, Feature]
    """Features that the forward pass kept."""
    shapes: dict[str, torch.Size]
    """Shapes of all features."""
    last_users: Mapping[str, object]
    """Last stage whose backward reads a kept feature's values, by the feature's name."""
    norms: dict[nn.Module, BoundNorm]
    bottlenecks: dict[nn.Module, Tensor]
    wanted: set[ParameterKey]
    """Parameters whose gradients autograd asks for."""
    needed: set[str]
    """Features whose gradients the pass needs."""
    weights_again: PassWeights
    """Weights for what the pass recomputes."""
    feature_gradients: dict[str, FeatureGradient] = field(default_factory=dict)
    parameter_gradients: Parameters = field(default_factory=dict)

    def wants(self, module: nn.Module, name: str = "weight") -> bool:
        return (module, name) in self.wanted

    def add_gradient(self, module: nn.Module, gradient: Tensor | None, name: str = "weight") -> None:
        """Adds to the gradient of a parameter, if it is wanted."""
        key = (module, name)
        if key not in self.wanted or gradient is None:
            return
        before = self.parameter_gradients.get(key)
        self.parameter_gradients[key] = gradient if before is None else before + gradient

    def finish_norm(self, module: BatchNorm, sums: BnSums, bound: BoundNorm | None = None) -> Correction | None:
        """Adds the gradients of gamma and beta; returns the correction for the writer of the input's gradient.

        bound: the norm in the form that this writer assumes, if it is another than the forward pass's.
        """
        return self._deliver(module, (bound or self.norms[module]).backward(sums))

    def finish_norm_of(
        self, feature: Feature, module: BatchNorm, sums: BnSums, gradient: FeatureGradient | None
    ) -> None:
        """Does the same for a reader of the first channels of `feature`, and defers the correction in its gradient."""
        bound = self.norms[module]
        deferred = None if gradient is None or not bound.batch_statistics else gradient.deferred(feature, bound.joint)
        self._deliver(module, bound.backward(sums, deferred))

    def _deliver(self, module: BatchNorm, gradients: NormGradients) -> Correction | None:
        self.add_gradient(module, gradients.gamma)
        self.add_gradient(module, gradients.beta, "bias")
        return gradients.correction

    def gradient_of(self, name: str) -> FeatureGradient:
        """The gradient of feature `name`, once all its readers have added to it."""
        return self.feature_gradients[name]

    def gradient_to_add_to(self, name: str) -> FeatureGradient | None:
        """The gradient of feature `name`, for a reader to add to; None if it is not needed."""
        if name in self.needed and name not in self.feature_gradients:
            self._make_gradient(name).data.zero_()
        return self.feature_gradients.get(name)

    def gradient_for(self, name: str, channels: int) -> tuple[FeatureGradient | None, bool]:
        """The same for a reader of the first `channels`, and whether the reader must add (else it overwrites)."""
        if name in self.needed and name not in self.feature_gradients and channels == self.shapes[name][1]:
            return self._make_gradient(name), False
        return self.gradient_to_add_to(name), True

    def new_gradient(self, name: str) -> FeatureGradient | None:
        """A new gradient of feature `name`, for its first reader to write; None if it is not needed."""
        return self._make_gradient(name) if name in self.needed else None

    def _make_gradient(self, name: str) -> FeatureGradient:
        feature = self.features.get(name)
        spread = feature is not None and not feature.data.is_contiguous(memory_format=torch.channels_last)
        data = self.workspace.take(self.like, *self.shapes[name], spread=spread)
        gradient = self.feature_gradients[name] = FeatureGradient(data)
        return gradient

    def new_feature(self, name: str) -> Feature:
        """Makes feature `name`, which forward has not kept, for a stage to recompute its values."""
        data = self.workspace.take(self.like, *self.shapes[name], spread=True)
        feature = self.features[name] = Feature(data)
        return feature

    def done_with(self, name: str, stage: object) -> None:
        """Drops the values of feature `name` if `stage`, which has read them, is the last reader."""
        if self.last_users[name] is stage:
            self.features.pop(name, None)

    def hand_on_gradient(self, name: str, data: Tensor) -> None:
        """Makes `data`, of which the caller lets go, the gradient of feature `name`, or adds it to the one there is."""
        gradient = self.feature_gradients.get(name)
        if gradient is None:
            self.feature_gradients[name] = FeatureGradient(data)
        else:
            gradient.data.add_(data)

    def drop_gradient(self, name: str) -> None:
        """Drops the gradient of a feature that no stage will read any more."""
        self.feature_gradients.pop(name, None)

    def set_gradient(self, name: str, grad: Tensor, shared: bool) -> None:
        """Sets the gradient that autograd passes in for output `name`.

        It is copied if it is `shared`: if a stage reads the output too, and will add to its gradient.
        """
        data = layout.empty(grad, *grad.shape).copy_(grad) if shared else layout.pixel_major(grad)
        self.feature_gradients[name] = FeatureGradient(data)
