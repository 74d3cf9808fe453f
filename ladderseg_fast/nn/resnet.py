"""ResNet feature extractors, the alternative to DenseNets in the downsampling path (Figure 2a of the paper)."""

from dataclasses import dataclass

import torch.nn as nn
from torch import Tensor

from .features import Features


class _ResidualUnit(nn.Module):
    """A residual unit; its children have torchvision's names.

    If input and output differ in shape, `downsample` projects the input.
    """

    #: Channels of a unit's output, in units of those of its 3x3 convolutions.
    expansion: int

    def _add_shortcut(self, in_channels: int, out_channels: int, stride: int) -> None:
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Sequential | None = None
        if stride != 1 or in_channels != out_channels:
            projection = nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False)
            self.downsample = nn.Sequential(projection, nn.BatchNorm2d(out_channels))


class BasicBlock(_ResidualUnit):
    """conv 3x3 - conv 3x3, each with BN, added to the input: [N, C, H, W] -> [N, width, H', W'].

    The first convolution has the stride. There is none with dilation, as in torchvision.

    Raises:
        ValueError: the dilation is not 1.
    """

    expansion = 1

    def __init__(self, in_channels: int, width: int, stride: int = 1, dilation: int = 1) -> None:
        super().__init__()
        if dilation != 1:
            raise ValueError(f"dilation must be 1 in a basic block, got {dilation}")
        self.conv1 = nn.Conv2d(in_channels, width, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self._add_shortcut(in_channels, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(x)) + shortcut)


class Bottleneck(_ResidualUnit):
    """conv 1x1 - conv 3x3 - conv 1x1, each with BN, added to the input: [N, C, H, W] -> [N, 4 * width, H', W'].

    The 3x3 convolution has the stride, as in torchvision.
    """

    expansion = 4

    def __init__(self, in_channels: int, width: int, stride: int = 1, dilation: int = 1) -> None:
        super().__init__()
        out_channels = self.expansion * width
        self.conv1 = nn.Conv2d(in_channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride=stride, padding=dilation, dilation=dilation, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self._add_shortcut(in_channels, out_channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.relu(self.bn2(self.conv2(x)))
        return self.relu(self.bn3(self.conv3(x)) + shortcut)


@dataclass(frozen=True)
class ResNetShape:
    """The kind of a ResNet's residual units, and how many of them each of its four stages has."""

    unit: type[BasicBlock] | type[Bottleneck]
    units: tuple[int, int, int, int]


#: Shapes of the ResNets of He et al. (CVPR 2016, Table 1).
RESNETS = {
    "resnet18": ResNetShape(BasicBlock, (2, 2, 2, 2)),
    "resnet34": ResNetShape(BasicBlock, (3, 4, 6, 3)),
    "resnet50": ResNetShape(Bottleneck, (3, 4, 6, 3)),
    "resnet101": ResNetShape(Bottleneck, (3, 4, 23, 3)),
    "resnet152": ResNetShape(Bottleneck, (3, 8, 36, 3)),
}


class ResNetFeatures(Features):
    """A ResNet without its classifier; child names are torchvision's.

    Args:
        shape: kind and number of the units.
        in_channels: channels of the images.
        split: an average pooling before the last unit of the fourth stage takes it to 1/64 of the images' resolution,
            like the pooling in a ladder DenseNet's fourth block. The paper leaves the place open.
        dilated: the last two stages are dilated (rates 2 and 4) instead of having stride 2. Their first units keep the
            dilation of the stage before, so that they read the grid that a strided convolution would.

    Attributes:
        channels: channels of each output by name, in the order of the forward pass: "layer1", "layer2", "layer3" and
            "layer4", or the halves "layer4a" and "layer4b" of the last.
        stride: side of the square of image pixels that one pixel of the last output stands for.

    Raises:
        ValueError: `dilated` with basic blocks.
    """

    layer4: nn.Sequential

    def __init__(
        self,
        shape: ResNetShape = RESNETS["resnet50"],
        in_channels: int = 3,
        split: bool = False,
        dilated: bool = False,
    ) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.split = split
        self.conv1 = nn.Conv2d(in_channels, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        channels, dilation, self.stride = 64, 1, 4
        for i, units in enumerate(shape.units):
            strided = i > 0 and not (dilated and i >= 2)
            before = dilation
            dilation = 2 ** (i - 1) if dilated and i >= 2 else 1
            width = 64 << i
            stage = [shape.unit(channels, width, 2 if strided else 1, before)]
            channels = shape.unit.expansion * width
            stage += [shape.unit(channels, width, 1, dilation) for _ in range(units - 1)]
            self.add_module(f"layer{i + 1}", nn.Sequential(*stage))
            self.stride *= 2 if strided else 1
        self.split_pool = nn.AvgPool2d(2)
        self.stride *= 2 if split else 1
        names = ["layer1", "layer2", "layer3", *(["layer4a", "layer4b"] if split else ["layer4"])]
        self.channels = {name: shape.unit.expansion * 64 << min(i, 3) for i, name in enumerate(names)}
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)

    def layer(self, name: str) -> nn.Sequential:
        """The units that lead to output `name`."""
        units = self.get_submodule(name[: len("layer1")])
        assert isinstance(units, nn.Sequential)
        half = {"layer4a": slice(None, -1), "layer4b": slice(-1, None)}.get(name)
        return units if half is None else nn.Sequential(*list(units)[half])

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Outputs by name; [N, in_channels, H, W] -> [N, channels[name], h, w]."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        maps = {}
        for name in self.channels:
            if name == "layer4b":
                x = self.split_pool(x)
            x = maps[name] = self.layer(name)(x)
        return maps
