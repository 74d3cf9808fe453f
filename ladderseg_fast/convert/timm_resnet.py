"""timm's ResNets: their layers, and the whole network up to its last layer, if they are of the plain kind."""

from timm.models.resnet import BasicBlock, Bottleneck, ResNet
from torch import Tensor, nn

from ..lean import opaque
from ..lean.examination import know_units
from .residual_layer import LeanResidualLayer
from .sequential import LeanSequence

know_units(BasicBlock, "act1", "act2")
know_units(Bottleneck, "act1", "act2", "act3")
for _unit in (BasicBlock, Bottleneck):
    LeanResidualLayer.lean_units[_unit] = ("drop_block", "aa", "se", "drop_path")


class LeanTimmResNet(LeanSequence, ResNet):
    """A ResNet of timm that runs its stem and layers as lean programs, whether or not gradient checkpointing is set."""

    lean_replaces = ResNet

    @classmethod
    def lean_names(cls, module: nn.Module) -> tuple[str, ...]:
        return "conv1", "bn1", "act1", "maxpool", "layer1", "layer2", "layer3", "layer4"

    def forward(self, *inputs: Tensor, **named: Tensor) -> Tensor:
        """Class scores [N, K] of x [N, C, H, W]."""
        return ResNet.forward(self, *inputs, **named)

    def forward_features(self, x: Tensor) -> Tensor:
        """Result of the last layer for x [N, C, H, W]."""
        return self.lean_forward(x) if self.lean_runs(x) else super().forward_features(x)

    @opaque
    def lean_forward(self, x: Tensor) -> Tensor:
        return self.lean_sequence(x)
