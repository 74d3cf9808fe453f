"""Soft Dice loss of upsampled logits, alone and with the cross entropy, without full-resolution probabilities."""

import torch
from torch import Tensor

from . import reference
from .checks import check_labels, check_number
from .labelled_scores import scores_and_weights
from .registration import reference_of
from .upsample import plain_upsample
from .upsample_pixel_losses import softmax_sums


def upsample_dice_loss(
    logits: Tensor,
    labels: Tensor,
    ignore_index: int = 255,
    smooth: float = 0.0,
    eps: float = 1e-7,
    per_image: bool = False,
    align_corners: bool = False,
) -> Tensor:
    """Soft Dice loss of the softmax of `logits`, upsampled bilinearly to the size of `labels`.

    For a class with the probabilities p and the indicators t of its label, over the counted pixels, the loss is
    1 - (sum(p t) + smooth) / max((sum(p) + sum(t)) / 2 + smooth, eps); a class without labels has loss 0. The result is
    the mean over all classes.

    Args:
        logits: [N, K, h, w], of the dtypes of upsample_cross_entropy; channels_last is read without a copy.
        labels: [N, H, W], any integer dtype; each in [0, K) or equal to `ignore_index`.
        ignore_index, align_corners: see upsample_cross_entropy.
        smooth: added to the numerator and the denominator.
        eps: least denominator.
        per_image: whether each image has sums of its own; the result is then the mean over images too.
    Returns:
        Scalar of the dtype of logits (float32 in a region of torch.autocast); 0 if no pixel counts; NaN if a label is
        out of range on CUDA.
    Raises:
        ValueError: a label is out of range, or a shape, device, `smooth` or `eps` does not fit; for labels on CUDA see
            upsample_cross_entropy.
        TypeError: a dtype does not fit.
    Source: Milletari, Navab and Ahmadi, V-Net, 2016; for many classes as in DiceLoss of segmentation_models_pytorch
        (mode "multiclass", from logits).
    Equivalent to: ops.reference.upsample_dice_loss.
    """
    _check_constants(smooth, eps)
    logits, _ = scores_and_weights("upsample_dice_loss", logits, labels, None, 0.0)
    losses, sums = softmax_sums(logits, labels, ignore_index=ignore_index, align_corners=align_corners)
    return (_dice_loss(sums, smooth, eps, per_image) + _nan_like(losses[0])).to(logits.dtype)


@reference_of(upsample_dice_loss)
def _plain(
    logits: Tensor,
    labels: Tensor,
    ignore_index: int = 255,
    smooth: float = 0.0,
    eps: float = 1e-7,
    per_image: bool = False,
    align_corners: bool = False,
) -> Tensor:
    """Soft Dice loss of logits [N, K, h, w], upsampled to labels [N, H, W]."""
    _check_constants(smooth, eps)
    check_labels(labels)
    labels = labels.long()
    probabilities = plain_upsample(logits, labels.shape[1:], align_corners).softmax(dim=1)
    counts = labels != ignore_index
    classes = torch.arange(logits.shape[1], device=logits.device).view(1, -1, 1, 1)
    targets = (classes == labels[:, None]) & counts[:, None]
    probabilities = probabilities.where(counts[:, None], 0.0)
    wide = torch.promote_types(logits.dtype, torch.float32)
    parts = (probabilities, probabilities.where(targets, 0.0), targets)
    sums = torch.stack([part.sum(dim=(2, 3), dtype=wide) for part in parts], dim=1)
    return _dice_loss(sums, smooth, eps, per_image).to(logits.dtype)


def upsample_cross_entropy_dice_loss(
    logits: Tensor,
    labels: Tensor,
    class_weights: Tensor | None = None,
    ignore_index: int = 255,
    cross_entropy_weight: float = 1.0,
    dice_weight: float = 1.0,
    label_smoothing: float = 0.0,
    smooth: float = 0.0,
    eps: float = 1e-7,
    per_image: bool = False,
    align_corners: bool = False,
) -> Tensor:
    """Weighted sum of upsample_cross_entropy (the mean) and upsample_dice_loss, from the same passes over the pixels.

    Args:
        logits: [N, K, h, w], of the dtypes of upsample_cross_entropy; channels_last is read without a copy.
        labels: [N, H, W], any integer dtype; each in [0, K) or equal to `ignore_index`.
        class_weights: [K] or None, of the cross entropy only.
        ignore_index, align_corners: see upsample_cross_entropy.
        label_smoothing: see upsample_cross_entropy; of the cross entropy only.
        cross_entropy_weight, dice_weight: factors of the two losses.
        smooth, eps, per_image: see upsample_dice_loss.
    Returns:
        Scalar of the dtype of logits (float32 in a region of torch.autocast).
    Raises:
        ValueError, TypeError, RuntimeError: as the two losses.
    Equivalent to: ops.reference.upsample_cross_entropy_dice_loss.
    """
    _check_constants(smooth, eps)
    logits, class_weights = scores_and_weights(
        "upsample_cross_entropy_dice_loss", logits, labels, class_weights, label_smoothing
    )
    losses, sums = softmax_sums(logits, labels, class_weights, ignore_index, label_smoothing, align_corners)
    total = losses[1].detach()
    cross_entropy = losses[0] / total.where(total != 0, 1)
    dice = _dice_loss(sums, smooth, eps, per_image)
    return (cross_entropy_weight * cross_entropy + dice_weight * dice).to(logits.dtype)


@reference_of(upsample_cross_entropy_dice_loss)
def _plain_sum(
    logits: Tensor,
    labels: Tensor,
    class_weights: Tensor | None = None,
    ignore_index: int = 255,
    cross_entropy_weight: float = 1.0,
    dice_weight: float = 1.0,
    label_smoothing: float = 0.0,
    smooth: float = 0.0,
    eps: float = 1e-7,
    per_image: bool = False,
    align_corners: bool = False,
) -> Tensor:
    """Weighted sum of the two losses of logits [N, K, h, w], upsampled to labels [N, H, W]."""
    cross_entropy = reference.upsample_cross_entropy(
        logits, labels, class_weights, ignore_index, "mean", label_smoothing, align_corners
    )
    dice = reference.upsample_dice_loss(logits, labels, ignore_index, smooth, eps, per_image, align_corners)
    return cross_entropy_weight * cross_entropy + dice_weight * dice


def _dice_loss(class_sums: Tensor, smooth: float, eps: float, per_image: bool) -> Tensor:
    """Dice loss from the class sums [N, 3, K] of softmax_sums."""
    predicted, intersection, labelled = (class_sums if per_image else class_sums.sum(dim=0, keepdim=True)).unbind(1)
    score = (intersection + smooth) / (0.5 * (predicted + labelled) + smooth).clamp_min(eps)
    losses = (1.0 - score).where(labelled > 0, 0.0)
    return losses.sum() / torch.ones_like(losses).sum().clamp_min(1.0)  # not mean(): there may be no image


def _nan_like(loss: Tensor) -> Tensor:
    """0, or NaN where the loss is NaN because a label is out of range on CUDA."""
    return torch.zeros_like(loss).where(~loss.isnan(), torch.nan)


def _check_constants(smooth: float, eps: float) -> None:
    check_number("smooth", smooth, lambda value: 0.0 <= value <= _LARGEST, "finite and not negative")
    check_number("eps", eps, lambda value: 0.0 < value <= _LARGEST, "finite and positive")


_LARGEST = torch.finfo(torch.float64).max
