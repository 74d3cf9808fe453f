"""Interface of the encoders: a network without its classifier, which gives named features."""

from torch import nn


class Features(nn.Module):
    """Network without its classifier, from images to feature maps by their names.

    Its forward takes images [N, in_channels, H, W] and returns the features [N, channels[name], h, w] by their names.

    Attributes:
        in_channels: channels of the images.
        channels: those of each feature, by its name, in the order of the forward pass.
        stride: side of the square of image pixels that one pixel of the last feature stands for.
    """

    in_channels: int
    channels: dict[str, int]
    stride: int
