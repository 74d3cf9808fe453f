"""Cross entropy of upsampled logits over the hardest pixels: online hard example mining."""

import math
from numbers import Real
from operator import index

import torch
import torch.nn.functional as F
from torch import Tensor

from .backend import real_dtype
from .checks import check_labels, check_number, check_weights_of_classes
from .labelled_scores import are_counted, check_label_smoothing, check_labelled_scores, readable, scores_and_weights
from .layout import pixel_major
from .loss_kernels import write_pixel_losses
from .registration import operator, reference_of
from .upsample import plain_upsample
from .upsample_cross_entropy import reduced_loss


def upsample_ohem_cross_entropy(
    logits: Tensor,
    labels: Tensor,
    class_weights: Tensor | None = None,
    ignore_index: int = 255,
    threshold: float | None = 0.7,
    min_kept: int | float = 100_000,
    label_smoothing: float = 0.0,
    align_corners: bool = False,
) -> Tensor:
    """Mean cross entropy of `logits`, upsampled bilinearly to the size of `labels`, over the hardest pixels.

    A pixel is the harder, the less probable its true class is: weights and smoothing do not change which are hardest.
    Kept are the pixels whose true class has at most the probability `threshold`, and in any case the `min_kept` hardest
    of the batch. With threshold None these alone are kept: the top-k loss.

    The last of these is found exactly. Pixels as hard as it are kept too, so ties do not depend on an order.

    Args:
        logits: [N, K, h, w], of the dtypes of upsample_cross_entropy; channels_last is read without a copy.
        labels: [N, H, W], any integer dtype; each in [0, K) or equal to `ignore_index`.
        class_weights: [K] or None.
        ignore_index, label_smoothing, align_corners: see upsample_cross_entropy.
        threshold: probability in (0, 1], or None.
        min_kept: an int is a number of pixels of the batch; a float in [0, 1] is a share of the counted pixels, rounded
            to the nearest number and at least one pixel, if it is not 0.
    Returns:
        Scalar of the dtype of logits (float32 in a region of torch.autocast): the mean over the kept pixels, weighted;
        0, with a gradient of 0, if none is kept.
    Raises:
        ValueError: see upsample_cross_entropy; also, if nothing would be kept, whatever the logits.
        TypeError: a dtype does not fit, or min_kept is no number.
        RuntimeError: class_weights require a gradient.
    Source: Shrivastava, Gupta and Girshick, Training Region-based Object Detectors with Online Hard Example Mining,
        2016; with a threshold and a least number as in segmentation (CCNet, HRNet).
    Equivalent to: ops.reference.upsample_ohem_cross_entropy.
    """
    min_kept = _checked_selection(threshold, min_kept)
    logits, class_weights = scores_and_weights(
        "upsample_ohem_cross_entropy", logits, labels, class_weights, label_smoothing
    )
    number, share = (0, min_kept) if isinstance(min_kept, float) else (min_kept, 0.0)
    kept = _hardest(logits.detach(), labels, ignore_index, threshold, number, share, align_corners)
    return reduced_loss(logits, labels, class_weights, ignore_index, "mean", label_smoothing, align_corners, kept)


@reference_of(upsample_ohem_cross_entropy)
def _plain(
    logits: Tensor,
    labels: Tensor,
    class_weights: Tensor | None = None,
    ignore_index: int = 255,
    threshold: float | None = 0.7,
    min_kept: int | float = 100_000,
    label_smoothing: float = 0.0,
    align_corners: bool = False,
) -> Tensor:
    """Mean cross entropy of logits [N, K, h, w], upsampled to labels [N, H, W], over the hardest pixels."""
    min_kept = _checked_selection(threshold, min_kept)
    check_label_smoothing(label_smoothing)
    check_labels(labels)
    labels = labels.long()
    upsampled = plain_upsample(logits, labels.shape[1:], align_corners)
    if class_weights is not None:
        check_weights_of_classes(class_weights)
        class_weights = class_weights.to(upsampled.dtype)
    counts = labels != ignore_index
    hardness = F.cross_entropy(upsampled.detach(), labels, ignore_index=ignore_index, reduction="none")
    ordered = hardness[counts].sort(descending=True).values
    number = int(_number_of(min_kept, torch.tensor(len(ordered))))
    cutoff = ordered[number - 1] if number else ordered.new_full((), torch.inf)
    if threshold is not None:
        cutoff = cutoff.clamp(max=-math.log(threshold))
    kept = counts & ~(hardness < cutoff)
    losses = F.cross_entropy(
        upsampled,
        labels,
        weight=class_weights,
        ignore_index=ignore_index,
        reduction="none",
        label_smoothing=label_smoothing,
    )
    wide = torch.promote_types(losses.dtype, torch.float32)
    weights = kept.to(wide) if class_weights is None else class_weights[labels.where(counts, 0)].to(wide) * kept
    total = weights.sum()
    return (losses.where(kept, 0.0).sum(dtype=wide) / total.where(total != 0, 1)).to(losses.dtype)


def _checked_selection(threshold: float | None, min_kept: int | float) -> int | float:
    """Checks both; returns min_kept as Python's int or float, whichever of NumPy's numbers it is."""
    if threshold is not None:
        check_number("threshold", threshold, lambda value: 0.0 < value <= 1.0, "a probability in (0, 1] or None")
    kept = _python_number(min_kept)
    if isinstance(kept, float) and not 0.0 <= kept <= 1.0:
        raise ValueError(f"min_kept must be a share in [0, 1] if it is a float, got {kept}")
    if kept < 0:
        raise ValueError(f"min_kept must not be negative, got {kept}")
    if threshold is None and kept == 0:
        raise ValueError("min_kept must be positive if threshold is None, otherwise no pixel is kept")
    return kept if isinstance(kept, float) else min(kept, _ALL)


#: A number of pixels that no batch has.
_ALL = torch.iinfo(torch.int64).max


def _python_number(min_kept: int | float) -> int | float:
    # In this order: every integer is a real number too, and a share must not be cut down to an integer.
    if hasattr(min_kept, "__index__"):
        try:
            return index(min_kept)
        except TypeError:  # a tensor, but not one integer
            pass
    if isinstance(min_kept, Real):
        return float(min_kept)
    raise TypeError(f"min_kept must be an int or a float, got {min_kept!r}")


def _number_of(min_kept: int | float, counted: Tensor) -> Tensor:
    """Number of pixels that are kept in any case, of so many `counted` (scalar int64)."""
    if isinstance(min_kept, float) and min_kept > 0.0:
        share = (counted.double() * min_kept).round().long().clamp(min=1)
        return torch.minimum(share, counted)
    return counted.clamp(max=int(min_kept))


@operator(
    "upsample_hardest_pixels",
    schema="(Tensor logits, Tensor labels, int ignore_index, float? threshold, int number, float share, "
    "bool align_corners) -> Tensor",
)
def _hardest(
    logits: Tensor,
    labels: Tensor,
    ignore_index: int,
    threshold: float | None,
    number: int,
    share: float,
    align_corners: bool,
) -> Tensor:
    """1 for pixels [N, H, W] that are kept, else 0; ignored ones may have either. `number` or `share` is min_kept."""
    check_labelled_scores(logits, labels, None)
    labels = readable(labels)
    losses = torch.empty(labels.shape, dtype=real_dtype(logits.dtype), device=logits.device)
    # Labels out of range have loss 0 here; the loss of the kept pixels reports them.
    write_pixel_losses(pixel_major(logits), labels, None, ignore_index, losses, None, align_corners=align_corners)
    min_kept = share or number
    cutoff = losses.new_full((), torch.inf)
    if min_kept > 0:
        # Ignored pixels have loss 0: no larger than any other, so they come last.
        counted = are_counted(labels, ignore_index).sum()
        cutoff = kth_largest(losses, _number_of(min_kept, counted))
    if threshold is not None:
        cutoff = cutoff.clamp(max=-math.log(threshold))
    # Not `greater or equal`: NaN is kept, so that the loss shows it.
    return losses.lt_(cutoff).neg_().add_(1.0)


@_hardest.register_fake
def _(logits: Tensor, labels: Tensor, *numbers: object) -> Tensor:
    return torch.empty(labels.shape, dtype=real_dtype(logits.dtype), device=logits.device)


def kth_largest(values: Tensor, k: Tensor) -> Tensor:
    """The k-th largest of `values`, scalar, none of which is negative; k is a scalar int64. For k = 0 it is NaN.

    Floating-point numbers that are not negative are ordered like the integers of the same bits. These are found from
    the highest bits on, without a copy of the values: on a CPU with few passes over them, elsewhere without waiting
    for the device.
    """
    integer, bits = (torch.int64, 63) if values.dtype == torch.float64 else (torch.int32, 31)
    find = by_digits if values.device.type == "cpu" else by_bits
    return find(values.view(integer).flatten(), k, bits).view(values.dtype)


def by_bits(numbers: Tensor, k: Tensor, bits: int) -> Tensor:
    """The largest integer that at least k of the `numbers`, which have so many bits, reach; one pass for each bit."""
    found = torch.zeros((), dtype=numbers.dtype, device=numbers.device)
    for bit in reversed(range(bits)):
        candidate = found | (1 << bit)
        found = torch.where((numbers >= candidate).count_nonzero() >= k, candidate, found)
    return found


def by_digits(numbers: Tensor, k: Tensor, bits: int) -> Tensor:
    """The same, with one pass for each digit of 11 bits; torch.bincount makes a GPU's host wait."""
    found = torch.zeros((), dtype=numbers.dtype)
    while bits > 0:
        width = min(11, bits)
        bits -= width
        bins = 1 << width
        counts = torch.zeros(bins + 2, dtype=torch.int64)  # also of numbers below and above those with digits so far
        for part in numbers.split(_PART):
            digits = (part >> bits).sub_(found << width).clamp_(-1, bins).add_(1)
            counts += torch.bincount(digits, minlength=bins + 2)
        reached = counts[1:].flip(0).cumsum(0)[1:]  # numbers that reach the last digit, the one before it, ...
        digit = bins - 1 - (reached < k).sum().clamp(max=bins - 1)
        found = (found << width) | digit.to(numbers.dtype)
    return found


#: Numbers whose digits are counted at a time: they stay in a cache.
_PART = 1 << 18
