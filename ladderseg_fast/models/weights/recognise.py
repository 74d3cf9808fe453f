"""Which network a checkpoint is of, as its layers tell."""

import re
from collections.abc import Mapping

from torch import Tensor

from ...nn import DENSENETS

#: (blocks per stage, convolutions per block, [out, in] channels of the first block's 3x3) of torchvision's ResNets.
_RESNETS = {
    ((2, 2, 2, 2), 2, (64, 64)): "resnet18",
    ((3, 4, 6, 3), 2, (64, 64)): "resnet34",
    ((3, 4, 6, 3), 3, (64, 64)): "resnet50",
    ((3, 4, 23, 3), 3, (64, 64)): "resnet101",
    ((3, 8, 36, 3), 3, (64, 64)): "resnet152",
    ((3, 4, 6, 3), 3, (128, 128)): "wide_resnet50_2",
    ((3, 4, 23, 3), 3, (128, 128)): "wide_resnet101_2",
    ((3, 4, 6, 3), 3, (128, 4)): "resnext50_32x4d",
    ((3, 4, 23, 3), 3, (256, 8)): "resnext101_32x8d",
}

_DENSE_LAYER = re.compile(r"(?:features\.)?denseblock(\d+)\.denselayer(\d+)\.")
_RESIDUAL_BLOCK = re.compile(r"layer(\d+)\.(\d+)\.")
_CONVOLUTION = re.compile(r"layer1\.0\.conv\d\.weight")


def recognise(state: Mapping[str, Tensor]) -> str | None:
    """The name of the DenseNet or ResNet that `state` is of, or None for a network that is not known here."""
    stem = state.get("conv0.weight", state.get("features.conv0.weight"))
    if stem is not None:
        found = stem.shape[0], _layers(state, _DENSE_LAYER)
        names = (name for name, shape in DENSENETS.items() if found == (shape.stem_channels, shape.block_layers))
        return next(names, None)
    inner = state.get("layer1.0.conv2.weight")
    if inner is not None:
        convolutions = sum(bool(_CONVOLUTION.fullmatch(name)) for name in state)
        return _RESNETS.get((_layers(state, _RESIDUAL_BLOCK), convolutions, tuple(inner.shape[:2])))
    return None


def _layers(state: Mapping[str, Tensor], pattern: re.Pattern[str]) -> tuple[int, ...]:
    """How many different second numbers `pattern` finds beside each first number."""
    found = {match.groups() for name in state if (match := pattern.match(name))}
    groups = sorted({int(group) for group, _ in found})
    return tuple(sum(int(other) == group for other, _ in found) for group in groups)
