"""From the names in checkpoints of torchvision and timm to those of the encoders."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

from ...nn import DENSENETS

#: What DataParallel and torch.compile put before every name.
_WRAPPER_PREFIXES = ("module.", "_orig_mod.")

#: A dense layer's norm or convolution in the checkpoints of 2017, when names of modules could have dots.
_OLD_DENSE_LAYER = re.compile(r"(.*\bdenselayer\d+\.(?:norm|conv))\.([12]\..*)")


@dataclass(frozen=True)
class Layout:
    """How checkpoints of one family of networks name what an encoder has."""

    first_convolution: str
    """The weight that reads the image."""
    left_out: tuple[str, ...]
    """Beginnings of the names, without `prefix`, that no encoder has."""
    prefix: str
    """What whole networks put before the encoder's names."""
    modern: Callable[[str], str]
    """Today's name for one that may be in an old style."""


def _modern_densenet(name: str) -> str:
    return _OLD_DENSE_LAYER.sub(r"\1\2", name)


_DENSENET = Layout("conv0.weight", ("classifier.", "norm5."), "features.", _modern_densenet)
_RESNET = Layout("conv1.weight", ("fc.",), "", str)


def layout_of(architecture: str) -> Layout:
    """The layout of a DenseNet in nn.DENSENETS, or of "resnet50"; ValueError for any other name."""
    if architecture in DENSENETS:
        return _DENSENET
    if architecture == "resnet50":
        return _RESNET
    raise ValueError(f"architecture must be one of {', '.join([*DENSENETS, 'resnet50'])}, got {architecture!r}")


def encoder_names(state: Mapping[str, Tensor], layout: Layout) -> dict[str, Tensor]:
    """`state` under the encoder's names, without classifier and final norm.

    Raises:
        ValueError: two tensors get one name.
    """
    named: dict[str, Tensor] = {}
    for key, tensor in without_wrappers(state).items():
        name = layout.modern(key.removeprefix(layout.prefix))
        if name.startswith(layout.left_out):
            continue
        if name in named:
            raise ValueError(f"{name} is there twice, in an old and in a new style of names")
        named[name] = tensor
    return named


def without_wrappers(state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Takes off prefixes that all names share; they may be nested in either order."""
    for prefix in _WRAPPER_PREFIXES:
        if state and all(name.startswith(prefix) for name in state):
            return without_wrappers({name.removeprefix(prefix): tensor for name, tensor in state.items()})
    return state
