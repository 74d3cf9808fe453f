"""torchvision's ResNets: their layers, and the whole network up to its last layer."""

import torch
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

from ..lean import opaque
from ..lean.examination import know_units
from .residual_layer import LeanResidualLayer
from .sequential import LeanSequence

for _unit in (BasicBlock, Bottleneck):
    know_units(_unit, "relu")
    LeanResidualLayer.lean_units[_unit] = ()


class LeanTorchvisionResNet(LeanSequence, ResNet):
    """A ResNet of torchvision that runs its stem and layers as lean programs."""

    lean_replaces = ResNet

    avgpool: nn.Module
    fc: nn.Module

    @classmethod
    def lean_names(cls, module: nn.Module) -> tuple[str, ...]:
        return "conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4"

    @opaque
    def lean_forward(self, x: Tensor) -> Tensor:
        return self.fc(torch.flatten(self.avgpool(self.lean_sequence(x)), 1))
