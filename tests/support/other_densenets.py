"""Other people's DenseNets, small but with every kind of part."""

from typing import Any

from support import torchvision_networks
from torch import nn

_SHAPE = {"growth_rate": 8, "block_config": (2, 3, 1, 2), "bn_size": 2}


def torchvision_densenet(**options: Any) -> nn.Module:
    densenet = torchvision_networks.torchvision().models.DenseNet
    return densenet(**(_SHAPE | {"num_init_features": 16, "num_classes": 5} | options))


def timm_densenet(**options: Any) -> nn.Module:
    densenet = torchvision_networks.timm().models.densenet.DenseNet
    return densenet(**(_SHAPE | {"num_classes": 5} | options))


def smp_densenet(depth: int = 5) -> nn.Module:
    """An encoder, which returns a map at each resolution."""
    encoders = torchvision_networks.segmentation_models().encoders.densenet
    return encoders.DenseNetEncoder([3, 16, 32, 40, 28, 30], depth, num_init_features=16, **_SHAPE)
