"""Interface of the encoders: a network without its classifier that returns named features."""

from torch import nn


class Features(nn.Module):
    """Network without its classifier, from images to named feature maps.

    Its forward takes images [N, in_channels, H, W] and returns a dict of features [N, channels[name], h, w] by name.

    Attributes:
        in_channels: channels of the images.
        channels: channels of each feature by name, in the order of the forward pass.
        stride: side of the square of image pixels that one pixel of the last feature stands for.
    """

    in_channels: int
    channels: dict[str, int]
    stride: int
