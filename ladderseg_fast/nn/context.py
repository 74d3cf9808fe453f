"""Context layer: widens the view of the coarsest features before upsampling starts."""

from torch import Tensor, nn


class Context(nn.Module):
    """BN - ReLU - conv 1x1 to `hidden_channels` - BN - ReLU - dilated conv 3x3 to `out_channels`."""

    def __init__(
        self, in_channels: int, hidden_channels: int = 512, out_channels: int = 128, dilation: int = 2
    ) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(in_channels)
        self.relu1 = nn.ReLU()
        self.conv1 = nn.Conv2d(in_channels, hidden_channels, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(hidden_channels)
        self.relu2 = nn.ReLU()
        self.conv2 = nn.Conv2d(hidden_channels, out_channels, 3, padding=dilation, dilation=dilation, bias=False)

    def bottleneck(self, features: Tensor) -> Tensor:
        """Maps [N, in_channels, H, W] to [N, hidden_channels, H, W]: the part that the lean step recomputes."""
        return self.conv1(self.relu1(self.norm1(features)))

    def forward(self, features: Tensor) -> Tensor:
        """Maps [N, in_channels, H, W] to [N, out_channels, H, W]."""
        return self.conv2(self.relu2(self.norm2(self.bottleneck(features))))
