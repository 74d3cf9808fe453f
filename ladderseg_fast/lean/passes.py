"""One forward and one backward pass of a program: the state that its stages share."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from ..ops import layout
from ..ops.arguments import BnSums, Correction
from .batch_norm import BoundNorm, NormGradients, bind, uses_batch_statistics
from .feature import Feature, FeatureGradient
from .plan import MemoryPlan
from .workspace import Workspace

#: (module, "weight" or "bias")
ParameterKey = tuple[nn.Module, str]
Parameters = dict[ParameterKey, Tensor]


@dataclass
class _Pass:
    """State that the stages of a program share in either direction.

    Parameters are looked up here and not in the modules, so that the backward pass meets the very tensors of its
    forward pass whatever has been put into the modules since (torch.func.functional_call does so).
    """

    parameters: Parameters
    plan: MemoryPlan
    workspace: Workspace
    like: Tensor
    """Any tensor of the dtype and device of the features."""

    def parameter(self, module: nn.Module, name: str = "weight") -> Tensor | None:
        """The parameter `name` of `module`, or None if it has none."""
        return self.parameters.get((module, name))

    def weight(self, convolution: nn.Conv2d) -> Tensor:
        """The weight of a convolution."""
        return self.parameters[convolution, "weight"]


@dataclass
class ForwardPass(_Pass):
    """State that the stages of a program share going forward."""

    features: dict[str, Feature]
    outputs: tuple[str, ...]
    keep: bool
    """Whether a backward pass may follow."""
    norms: dict[nn.Module, BoundNorm] = field(default_factory=dict)
    bottlenecks: dict[nn.Module, Tensor] = field(default_factory=dict)
    """Hidden map of each bottleneck that is kept, by its 1x1 convolution: see SectionPlan.keep_bottlenecks_from."""
    _updated: dict[int, nn.Module] = field(default_factory=dict)
    """The batch norm whose buffers these are, by the ids of the buffers."""

    def new_feature(self, name: str, n: int, c: int, h: int, w: int, spread: bool = False) -> Feature:
        """A feature to be written; what the user gets to see does not come from the workspace.

        `spread` is for those whose ranges of channels are read: see Workspace.take.
        """
        if name in self.outputs:
            data = layout.empty(self.like, n, c, h, w)
        else:
            data = self.workspace.take(self.like, n, c, h, w, spread=spread)
        feature = self.features[name] = Feature(data)
        return feature

    def bind_to_feature(self, module: nn.BatchNorm2d, feature: Feature, channels: int) -> BoundNorm:
        """Bind the batch norm that reads the first `channels` of `feature`."""
        statistics = feature.statistics(channels) if uses_batch_statistics(module) else None
        return self.bind(module, statistics, feature.positions, feature.data.dtype)

    def bind(
        self,
        module: nn.BatchNorm2d,
        statistics: Tensor | None,
        positions: int,
        dtype: torch.dtype,
    ) -> BoundNorm:
        """Bind a batch norm whose input has these batch statistics [2, C] (None: its running ones are used)."""
        gamma, beta = self.parameter(module), self.parameter(module, "bias")
        if module.training:
            self._check_own_statistics(module)
        bound = self.norms[module] = bind(module, gamma, beta, statistics, positions, dtype)
        return bound

    def _check_own_statistics(self, module: nn.BatchNorm2d) -> None:
        """Stages do not run in the order of the plain modules, in which shared statistics would be updated."""
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
    """Stage whose backward is the last to read a kept feature's values, by the feature."""
    norms: dict[nn.Module, BoundNorm]
    bottlenecks: dict[nn.Module, Tensor]
    wanted: set[ParameterKey]
    """The parameters whose gradients are asked for."""
    needed: set[str]
    """The features whose gradients somebody needs."""
    feature_gradients: dict[str, FeatureGradient] = field(default_factory=dict)
    parameter_gradients: Parameters = field(default_factory=dict)

    def wants(self, module: nn.Module, name: str = "weight") -> bool:
        return (module, name) in self.wanted

    def add_gradient(self, module: nn.Module, gradient: Tensor | None, name: str = "weight") -> None:
        """Deliver the gradient of a parameter, if it is wanted."""
        key = (module, name)
        if key not in self.wanted or gradient is None:
            return
        before = self.parameter_gradients.get(key)
        self.parameter_gradients[key] = gradient if before is None else before + gradient

    def finish_norm(self, module: nn.BatchNorm2d, sums: BnSums) -> Correction | None:
        """Deliver the gradients of gamma and beta; returns the correction of the input's, for whoever writes that."""
        return self._deliver(module, self.norms[module].backward(sums))

    def finish_norm_of(
        self, feature: Feature, module: nn.BatchNorm2d, sums: BnSums, gradient: FeatureGradient | None
    ) -> None:
        """The same of a batch norm that reads the first channels of `feature`; its gradient, if needed, takes note."""
        bound = self.norms[module]
        deferred = None if gradient is None or not bound.batch_statistics else gradient.deferred(feature)
        self._deliver(module, bound.backward(sums, deferred))

    def _deliver(self, module: nn.BatchNorm2d, gradients: NormGradients) -> Correction | None:
        self.add_gradient(module, gradients.gamma)
        self.add_gradient(module, gradients.beta, "bias")
        return gradients.correction

    def gradient_of(self, name: str) -> FeatureGradient:
        """The gradient of feature `name`, whose stage is running backward."""
        return self.feature_gradients[name]

    def gradient_to_add_to(self, name: str) -> FeatureGradient | None:
        """The gradient of feature `name` for a reader to add to; None if nobody needs it."""
        if name in self.needed and name not in self.feature_gradients:
            self._make_gradient(name).data.zero_()
        return self.feature_gradients.get(name)

    def gradient_for(self, name: str, channels: int) -> tuple[FeatureGradient | None, bool]:
        """The same for a reader of the first `channels`, and whether it is to add or to write: nothing is there yet."""
        if name in self.needed and name not in self.feature_gradients and channels == self.shapes[name][1]:
            return self._make_gradient(name), False
        return self.gradient_to_add_to(name), True

    def new_gradient(self, name: str) -> FeatureGradient | None:
        """The gradient of feature `name` for its first reader to write; None if nobody needs it."""
        return self._make_gradient(name) if name in self.needed else None

    def _make_gradient(self, name: str) -> FeatureGradient:
        feature = self.features.get(name)
        spread = feature is not None and not feature.data.is_contiguous(memory_format=torch.channels_last)
        data = self.workspace.take(self.like, *self.shapes[name], spread=spread)
        gradient = self.feature_gradients[name] = FeatureGradient(data)
        return gradient

    def new_feature(self, name: str) -> Feature:
        """Feature `name`, which forward has not kept, for its values to be written again."""
        data = self.workspace.take(self.like, *self.shapes[name], spread=True)
        feature = self.features[name] = Feature(data)
        return feature

    def done_with(self, name: str, stage: object) -> None:
        """`stage` reads the values of feature `name` no more; nor does anybody else if it is the last one."""
        if self.last_users[name] is stage:
            self.features.pop(name, None)

    def drop_gradient(self, name: str) -> None:
        """Let go of the gradient of a feature once nothing will read it any more."""
        self.feature_gradients.pop(name, None)

    def set_gradient(self, name: str, grad: Tensor, shared: bool) -> None:
        """The gradient that the user's part of the graph has for output `name`.

        It is copied where it is `shared`: where a stage reads the output, and will add to its gradient.
        """
        data = layout.empty(grad, *grad.shape).copy_(grad) if shared else layout.pixel_major(grad)
        self.feature_gradients[name] = FeatureGradient(data)
