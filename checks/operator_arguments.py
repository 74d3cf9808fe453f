"""Arguments that the operators of ladderseg_fast.ops take, drawn at random."""

from collections.abc import Callable
from typing import Any

import torch
from drawn_tensors import Draw
from torch import Tensor

from ladderseg_fast.ops.backend import real_dtype

Arguments = dict[str, Any]

#: Arguments that have a gradient, of any operator.
DIFFERENTIABLE = (
    *("x", "mean", "invstd", "gamma", "beta", "weight", "shortcut", "coarse", "skip", "logits"),
    *("shortcut_mean", "shortcut_invstd", "shortcut_gamma", "shortcut_beta"),
)

_LABELS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.uint16, torch.uint32, torch.uint64)
_CLASS_WEIGHTS = (torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.uint8)


def draw_arguments(draw: Draw, name: str, dtype: torch.dtype) -> Arguments:
    """Arguments of the operator `name`, with maps of `dtype`, in the order of its signature."""
    return _ARGUMENTS[name](draw, dtype)


def _bn_relu(draw: Draw, dtype: torch.dtype, name: str = "x", least: int = 0) -> Arguments:
    shape = draw.map_shape(least)
    x = draw.placed(draw.eighths(shape, -16, 16, dtype))
    return {name: x} | _vectors(draw, shape[1], dtype)


def _vectors(draw: Draw, channels: int, dtype: torch.dtype, prefix: str = "") -> Arguments:
    """mean, invstd, gamma and beta; some may be None, or another one's memory."""
    real, shape = real_dtype(dtype), (channels,)
    mean, beta = (draw.placed(draw.eighths(shape, -4, 4, real)) for _ in range(2))
    invstd, gamma = (draw.placed(draw.integers(shape, least, 2).to(real) / 2) for least in (1, -2))
    if draw.chance(0.1):
        mean, invstd, gamma, beta = draw.placed(draw.integers((4, channels), 1, 2).to(real) / 2)
    if draw.chance(0.1):
        gamma = beta = mean
    optional = [None if draw.chance(0.2) else vector for vector in (gamma, beta)]
    names = (prefix + name for name in ("mean", "invstd", "gamma", "beta"))
    return dict(zip(names, (mean, invstd, *optional)))


def _weight(draw: Draw, channels: int, dtype: torch.dtype, kernel_size: int) -> Tensor:
    outputs = draw.channels()
    return draw.placed(draw.uniform((outputs, channels, kernel_size, kernel_size), -1.0, 1.0, dtype))


def _with_pixels(least: int) -> Callable[[Draw, torch.dtype], Arguments]:
    return lambda draw, dtype: _bn_relu(draw, dtype, least=least)


def _bn_relu_conv1x1(draw: Draw, dtype: torch.dtype) -> Arguments:
    arguments = _bn_relu(draw, dtype)
    return arguments | {"weight": _weight(draw, arguments["x"].shape[1], dtype, 1)}


def _bn_relu_conv3x3(draw: Draw, dtype: torch.dtype) -> Arguments:
    arguments = _bn_relu(draw, dtype)
    dilation = draw.choice((1, 1, 2, 3, 4, 7, 16, 40, 1 << 31, (1 << 62) + 1, (1 << 63) - 1))
    return arguments | {"weight": _weight(draw, arguments["x"].shape[1], dtype, 3), "dilation": dilation}


def _bn_add_relu(draw: Draw, dtype: torch.dtype) -> Arguments:
    arguments = _bn_relu(draw, dtype)
    x = arguments["x"]
    shortcut = x if draw.chance(0.1) else draw.placed(draw.eighths(x.shape, -16, 16, dtype))
    arguments["shortcut"] = shortcut
    if draw.chance(0.5):
        arguments |= _vectors(draw, x.shape[1], dtype, "shortcut_")
    return arguments


def _upsample_project_concat(draw: Draw, dtype: torch.dtype) -> Arguments:
    arguments = _bn_relu(draw, dtype, "skip", least=1)
    n, c, *_ = arguments["skip"].shape
    coarse = draw.placed(draw.uniform((n, draw.channels(), draw.side(), draw.side()), -2.0, 2.0, dtype))
    return {"coarse": coarse} | arguments | {"weight": _weight(draw, c, dtype, 1)}


def _channel_statistics(draw: Draw, dtype: torch.dtype) -> Arguments:
    return {"x": draw.placed(draw.uniform(draw.map_shape(0), -2.0, 2.0, dtype))}


def _scores(draw: Draw, dtype: torch.dtype) -> Tensor:
    return draw.placed(draw.uniform(draw.map_shape(), -4.0, 4.0, dtype))


def _upsample_argmax(draw: Draw, dtype: torch.dtype) -> Arguments:
    size = draw.side(), draw.side()
    return {"scores": _scores(draw, dtype), "size": size, "align_corners": draw.chance(0.5)}


def _labelled(draw: Draw, dtype: torch.dtype) -> Arguments:
    """Logits, labels and ignore_index."""
    logits = _scores(draw, dtype)
    classes = logits.shape[1]
    kind = draw.choice(_LABELS)
    ignored = draw.choice((255, 255, 0, -1, -100, classes, (1 << 63) - 1, -(1 << 63)))
    # Of more classes than the labels' type can name, the first.
    last = min(classes - 1, torch.iinfo(kind).max)
    labels = draw.integers((logits.shape[0], draw.side(), draw.side()), 0, last)
    if torch.iinfo(kind).min <= ignored <= torch.iinfo(kind).max:
        share = draw.choice((0.0, 0.3, 1.0))
        labels = labels.where(draw.uniform(labels.shape, 0.0, 1.0) >= share, ignored)
    # Views of the wider unsigned types are made of the signed ones of their size: torch fills and copies few of them.
    return {"logits": logits, "labels": draw.placed(labels).to(kind), "ignore_index": ignored}


def _class_weights(draw: Draw, classes: int) -> Tensor | None:
    if draw.chance(0.5):
        return None
    return draw.placed(draw.integers((classes,), 0, 4).to(draw.choice(_CLASS_WEIGHTS)))


def _cross_entropy(draw: Draw, dtype: torch.dtype) -> Arguments:
    labelled = _labelled(draw, dtype)
    ignore_index = labelled.pop("ignore_index")
    return labelled | {
        "class_weights": _class_weights(draw, labelled["logits"].shape[1]),
        "ignore_index": ignore_index,
        "label_smoothing": draw.choice((0.0, 0.0, 0.1, 0.5, 1.0, 1e-300)),
        "align_corners": draw.chance(0.5),
    }


def _upsample_cross_entropy(draw: Draw, dtype: torch.dtype) -> Arguments:
    return _cross_entropy(draw, dtype) | {"reduction": draw.choice(("mean", "sum", "none"))}


def _dice_constants(draw: Draw) -> Arguments:
    return {
        "smooth": draw.choice((0.0, 0.0, 1.0, 1e-300, 1e10)),
        "eps": draw.choice((1e-7, 1e-7, 1e-300, 1.0, 1e10)),
        "per_image": draw.chance(0.5),
    }


def _upsample_dice_loss(draw: Draw, dtype: torch.dtype) -> Arguments:
    return _labelled(draw, dtype) | {"align_corners": draw.chance(0.5)} | _dice_constants(draw)


def _upsample_cross_entropy_dice_loss(draw: Draw, dtype: torch.dtype) -> Arguments:
    weights = {name: draw.choice((0.0, 1.0, -2.0, 0.3)) for name in ("cross_entropy_weight", "dice_weight")}
    return _cross_entropy(draw, dtype) | weights | _dice_constants(draw)


def _upsample_ohem_cross_entropy(draw: Draw, dtype: torch.dtype) -> Arguments:
    threshold = draw.choice((0.7, 0.7, 0.1, 1.0, 1e-300, None))
    least = (0, 0.0) if threshold else ()
    min_kept = draw.choice((1, 3, 100_000, 0.25, 1.0, 1e-300, (1 << 63) - 1, 1 << 63, 1 << 200, *least))
    return _cross_entropy(draw, dtype) | {"threshold": threshold, "min_kept": min_kept}


_ARGUMENTS: dict[str, Callable[[Draw, torch.dtype], Arguments]] = {
    "bn_add_relu": _bn_add_relu,
    "bn_relu": _bn_relu,
    "bn_relu_avgpool2": _with_pixels(2),
    "bn_relu_conv1x1": _bn_relu_conv1x1,
    "bn_relu_conv3x3": _bn_relu_conv3x3,
    "bn_relu_maxpool": _with_pixels(1),
    "bn_relu_patches": _with_pixels(1),
    "channel_statistics": _channel_statistics,
    "upsample_argmax": _upsample_argmax,
    "upsample_cross_entropy": _upsample_cross_entropy,
    "upsample_cross_entropy_dice_loss": _upsample_cross_entropy_dice_loss,
    "upsample_dice_loss": _upsample_dice_loss,
    "upsample_ohem_cross_entropy": _upsample_ohem_cross_entropy,
    "upsample_project_concat": _upsample_project_concat,
}
