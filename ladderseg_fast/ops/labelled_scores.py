"""Scores at low resolution and the labels at full resolution that they are compared with: what all losses read."""

import torch
from torch import Tensor

from .autocast import float32_in_autocast
from .backend import real_dtype
from .checks import check_labels, check_map, check_number, check_tensors, check_vector, check_weights_of_classes
from .transforms import refuse_tangents

#: Dtype to which labels are converted if the core does not read theirs.
_READABLE = {
    torch.int8: torch.int32,
    torch.int16: torch.int32,
    torch.uint16: torch.int32,
    torch.uint32: torch.int64,
    torch.uint64: torch.int64,
}


def scores_and_weights(
    name: str, logits: Tensor, labels: Tensor, class_weights: Tensor | None, label_smoothing: float
) -> tuple[Tensor, Tensor | None]:
    """Logits in the dtype of losses under torch.autocast, and class weights in the dtype that the kernels read.

    Raises:
        TypeError: logits or labels are no tensor, or class_weights none of real numbers.
        ValueError: label_smoothing is not in [0, 1].
        RuntimeError: the operator `name` would lose tangents, or the gradient of class_weights.
    """
    check_tensors(logits=logits, labels=labels)
    logits = float32_in_autocast(logits)
    if class_weights is not None:
        check_weights_of_classes(class_weights)
        if class_weights.requires_grad and torch.is_grad_enabled():
            raise RuntimeError(f"class_weights have no gradient in {name}, but require one; detach() them")
        class_weights = class_weights.to(real_dtype(logits.dtype))
    check_label_smoothing(label_smoothing)
    refuse_tangents(name, (logits, class_weights))
    return logits, class_weights


def check_label_smoothing(label_smoothing: float) -> None:
    """Checks that `label_smoothing` is a share."""
    check_number("label_smoothing", label_smoothing, lambda share: 0.0 <= share <= 1.0, "in [0, 1]")


def check_labelled_scores(logits: Tensor, labels: Tensor, class_weights: Tensor | None) -> None:
    """Checks that `labels` [N, H, W] and `class_weights` [K] fit `logits` [N, K, h, w]."""
    check_map("logits", logits)
    check_labels(labels)
    if labels.dim() != 3 or labels.shape[0] != logits.shape[0]:
        raise ValueError(f"labels must be [{logits.shape[0]}, H, W] for these logits, got shape {tuple(labels.shape)}")
    if labels.device != logits.device:
        raise ValueError(f"labels must be on {logits.device} like logits, got {labels.device}")
    if any(side < 1 for side in (*logits.shape[2:], *labels.shape[1:])):  # min would compare sizes in graphs
        raise ValueError(f"logits and labels must have pixels, got {tuple(logits.shape)} and {tuple(labels.shape)}")
    check_vector("class_weights", class_weights, logits.shape[1], "logits", logits)


def readable(labels: Tensor) -> Tensor:
    """Contiguous labels in a dtype that the core reads."""
    return labels.to(_READABLE.get(labels.dtype, labels.dtype)).contiguous()


def are_counted(labels: Tensor, ignore_index: int) -> Tensor:
    """Whether a label is another than `ignore_index`, which may be no number of their dtype: torch would cut it."""
    limits = torch.iinfo(labels.dtype)
    if not limits.min <= ignore_index <= limits.max:
        return torch.ones_like(labels, dtype=torch.bool)
    return labels != ignore_index


def invalid_label(labels: Tensor, pixel: int, classes: int, ignore_index: int) -> str:
    """Message for a label out of range, at the number `pixel` of all pixels."""
    _, height, width = labels.shape
    image, y, x = pixel // (height * width), pixel // width % height, pixel % width
    return (
        f"labels must be in [0, {classes}) or equal to ignore_index={ignore_index}, "
        f"got {labels[image, y, x].item()} at image {image}, row {y}, column {x}"
    )
