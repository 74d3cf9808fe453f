"""What every operator computes, in plain PyTorch.

One function per operator, with the operator's name and signature and differentiable by autograd. The tests
and the benchmarks compare against these; memory="plain" runs them.

In all of them mean, invstd, gamma and beta are [C]; gamma None stands for 1 and beta None for 0. Beside maps of 16-bit
elements they are float32, and arithmetic is in float32 where nn.BatchNorm2d's is.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from .checks import check_labels, check_weights_of_classes


def channel_statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean [C] and biased variance [C] of x [N, C, H, W] over N, H and W."""
    x = x if x.dtype == torch.float64 else x.float()
    mean = x.mean(dim=(0, 2, 3))
    variance = (x - _per_channel(mean)).square().mean(dim=(0, 2, 3))
    return mean, variance


def bn_relu(x: Tensor, mean: Tensor, invstd: Tensor, gamma: Tensor | None, beta: Tensor | None) -> Tensor:
    """relu((x - mean) * invstd * gamma + beta) of x [N, C, H, W], per channel."""
    normalised = (x - _per_channel(mean)) * _per_channel(invstd)
    if gamma is not None:
        normalised = normalised * _per_channel(gamma)
    if beta is not None:
        normalised = normalised + _per_channel(beta)
    return F.relu(normalised.to(x.dtype))


def bn_relu_conv1x1(
    x: Tensor, mean: Tensor, invstd: Tensor, gamma: Tensor | None, beta: Tensor | None, weight: Tensor
) -> Tensor:
    """1x1 convolution of bn_relu(x) [N, C, H, W] with weight [M, C, 1, 1]: [N, M, H, W]."""
    return F.conv2d(bn_relu(x, mean, invstd, gamma, beta), weight)


def bn_relu_conv3x3(
    x: Tensor,
    mean: Tensor,
    invstd: Tensor,
    gamma: Tensor | None,
    beta: Tensor | None,
    weight: Tensor,
    dilation: int = 1,
) -> Tensor:
    """3x3 convolution of bn_relu(x) [N, C, H, W] with weight [M, C, 3, 3], zero padded: [N, M, H, W]."""
    return F.conv2d(bn_relu(x, mean, invstd, gamma, beta), weight, padding=dilation, dilation=dilation)


def bn_relu_avgpool2(x: Tensor, mean: Tensor, invstd: Tensor, gamma: Tensor | None, beta: Tensor | None) -> Tensor:
    """Average of 2 x 2 pixels of bn_relu(x) [N, C, H, W]: [N, C, H // 2, W // 2]."""
    return F.avg_pool2d(bn_relu(x, mean, invstd, gamma, beta), kernel_size=2)


def bn_relu_maxpool(x: Tensor, mean: Tensor, invstd: Tensor, gamma: Tensor | None, beta: Tensor | None) -> Tensor:
    """Maximum of 3 x 3 pixels, stride 2, padding 1, of bn_relu(x) [N, C, H, W]: [N, C, (H + 1) // 2, (W + 1) // 2]."""
    return F.max_pool2d(bn_relu(x, mean, invstd, gamma, beta), kernel_size=3, stride=2, padding=1)


def upsample_project_concat(
    coarse: Tensor,
    skip: Tensor,
    mean: Tensor,
    invstd: Tensor,
    gamma: Tensor | None,
    beta: Tensor | None,
    weight: Tensor,
) -> Tensor:
    """coarse [N, D, h, w] upsampled to (H, W), then bn_relu_conv1x1(skip [N, C, H, W]): [N, D + M, H, W]."""
    projected = bn_relu_conv1x1(skip, mean, invstd, gamma, beta, weight)
    return torch.cat([_upsample(coarse, skip.shape[2:]), projected], dim=1)


def upsample_cross_entropy(
    logits: Tensor, labels: Tensor, class_weights: Tensor | None = None, ignore_index: int = 255
) -> Tensor:
    """Mean cross entropy of logits [N, K, h, w], upsampled to labels [N, H, W], over pixels not ignored.

    With class_weights [K] the mean is weighted, as in F.cross_entropy. With no counted pixel, or where all weigh
    nothing, it is 0 and so is its gradient.
    """
    check_labels(labels)
    labels = labels.long()
    upsampled = _upsample(logits, labels.shape[1:])
    weights = labels != ignore_index
    if class_weights is not None:
        check_weights_of_classes(class_weights)
        class_weights = class_weights.to(upsampled.dtype)
        classes = labels.where(weights, 0).clamp(0, len(class_weights) - 1)  # those out of range are reported below
        weights = class_weights[classes] * weights
    wide = torch.promote_types(upsampled.dtype, torch.float32)
    losses = F.cross_entropy(upsampled, labels, weight=class_weights, ignore_index=ignore_index, reduction="none")
    total = weights.sum(dtype=wide)
    return (losses.sum(dtype=wide) / total.where(total != 0, 1)).to(losses.dtype)


def upsample_argmax(scores: Tensor, size: tuple[int, int]) -> Tensor:
    """Best class [N, H, W] uint8 of scores [N, K, h, w], upsampled to size (H, W); ties go to the smaller class."""
    return _upsample(scores, size).argmax(dim=1).to(torch.uint8)


def _per_channel(vector: Tensor) -> Tensor:
    """[C] -> [1, C, 1, 1], to be broadcast over [N, C, H, W]."""
    return vector.view(1, -1, 1, 1)


def _upsample(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear interpolation with half-pixel centres."""
    return F.interpolate(x, tuple(size), mode="bilinear", align_corners=False)
