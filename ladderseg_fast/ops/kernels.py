"""The core's kernels on tensors: where pointers are taken and nothing else happens.

Feature maps are pixel-major tensors [N, C, H, W] (layout.py) of one dtype, one of backend.dtypes(device); vectors [C]
and weight gradients are of its backend.real_dtype. A weight of another dtype is cast to that of the maps. Outputs are
written in place; whoever calls has checked what the arguments mean (checks.py, or by construction in the lean step).
The core holds every tensor's extent, element size and device against what it will read and write: a ValueError.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from typing import Any

import torch
from torch import Tensor

from .. import _core
from .backend import backend_of, launch, real_dtype
from .layout import empty, pixel_stride
from .pointers import address, memories, memory

_NO_MAP = _core.FeatureMap(0, 0, 0, 0, 0, 0, 0, 0)
_NO_CORRECTION = _core.Correction(_NO_MAP, None, None, None)

_LABEL_TYPES = {
    torch.uint8: _core.LabelType.uint8,
    torch.int32: _core.LabelType.int32,
    torch.int64: _core.LabelType.int64,
}


@dataclass
class Norm:
    """Batch norm as the kernels take it: relu((x - mean) * scale + shift), per channel.

    mean, scale and shift are contiguous [C] of the real_dtype of x.
    """

    mean: Tensor
    scale: Tensor
    shift: Tensor

    @staticmethod
    def of(mean: Tensor, invstd: Tensor, gamma: Tensor | None, beta: Tensor | None) -> "Norm":
        """From statistics [C] and affine parameters [C] (None: 1 and 0)."""
        scale = invstd if gamma is None else invstd * gamma
        shift = torch.zeros_like(mean) if beta is None else beta
        return Norm(mean.contiguous(), scale.contiguous(), shift.contiguous())

    def part(self, channels: slice) -> "Norm":
        """That of some channels."""
        return Norm(self.mean[channels], self.scale[channels], self.shift[channels])

    def pointers(self) -> _core.BnRelu:
        return _core.BnRelu(memory(self.mean), memory(self.scale), memory(self.shift))


@dataclass
class BnSums:
    """What batch norm's backward needs of the masked gradient m: sum(m) and sum(m * (x - mean)), [C] float64."""

    masked: Tensor
    centred: Tensor

    @staticmethod
    def empty(channels: int, device: torch.device) -> "BnSums":
        """For a kernel to write."""
        return BnSums(*torch.empty((2, channels), dtype=torch.float64, device=device))

    @staticmethod
    def of_none(channels: int, device: torch.device) -> "BnSums":
        """Those over no positions."""
        return BnSums(*torch.zeros((2, channels), dtype=torch.float64, device=device))

    def pointers(self) -> _core.BnSums:
        return _core.BnSums(memory(self.masked), memory(self.centred))

    def plus(self, other: "BnSums | None") -> "BnSums":
        """These, to which `other` is added in place."""
        if other is not None:
            self.masked += other.masked
            self.centred += other.centred
        return self


@dataclass
class CorrectedGradient:
    """A gradient [N, C, H, W] whose batch norm correction is deferred to whoever reads it.

    Its value is grad - constant - slope * (x - mean), with vectors [C] of the real_dtype of grad; without x it is grad.
    Source: ALGORITHMS.md section 4.
    """

    grad: Tensor
    x: Tensor | None = None
    mean: Tensor | None = None
    constant: Tensor | None = None
    slope: Tensor | None = None

    def part(self, images: slice, rows: slice) -> "CorrectedGradient":
        """That of some images and rows."""
        x = None if self.x is None else self.x[images, :, rows]
        return CorrectedGradient(self.grad[images, :, rows], x, self.mean, self.constant, self.slope)

    def pointers(self) -> _core.Gradient:
        if self.x is None:
            return _core.Gradient(_map(self.grad), _NO_CORRECTION)
        vectors = (memory(self.mean), memory(self.constant), memory(self.slope))
        return _core.Gradient(_map(self.grad), _core.Correction(_map(self.x), *vectors))


#: observer(name, arguments by name) for each kernel that a thread calls.
Observer = Callable[[str, dict[str, Any]], None]


class _Observed(threading.local):
    observer: Observer | None = None


_observed = _Observed()


@contextmanager
def observing(observer: Observer) -> Iterator[None]:
    """In this region `observer` is told of every kernel that this thread calls."""
    before, _observed.observer = _observed.observer, observer
    try:
        yield
    finally:
        _observed.observer = before


def observed(function: Callable[..., Any]) -> Callable[..., Any]:
    """For a function that calls one kernel of the core, or a convolution of torch's: observers hear of its calls."""
    names = function.__code__.co_varnames

    @wraps(function)
    def call(*arguments: Any, **named: Any) -> Any:
        if _observed.observer is not None:
            _observed.observer(function.__name__, dict(zip(names, arguments)) | named)
        return function(*arguments, **named)

    return call


@observed
def channel_statistics(x: Tensor) -> Tensor:
    """[2, C] float64: mean and biased variance of x [N, C, H, W]."""
    result = _statistics(x, x.shape[1])
    launch(_core.channel_statistics, x, _map(x), *memories(result))
    return result


@observed
def affine_correction(gradient: CorrectedGradient, out: Tensor) -> None:
    """out = the value of `gradient`, which has an x; [N, C, H, W]; out may be gradient.grad."""
    launch(_core.affine_correction, out, gradient.pointers(), _map(out))


def settled(gradient: CorrectedGradient) -> Tensor:
    """The value of `gradient` [N, C, H, W]; a fresh tensor if there is something to correct."""
    if gradient.x is None:
        return gradient.grad
    n, c, h, w = gradient.grad.shape
    out = empty(gradient.grad, n, c, h, w)
    affine_correction(gradient, out)
    return out


@observed
def bn_relu_forward(x: Tensor, norm: Norm, out: Tensor) -> None:
    """out = bn_relu(x), [N, C, H, W]."""
    launch(_core.bn_relu_forward, x, _map(x), norm.pointers(), _map(out))


@observed
def bn_relu_backward(grad: Tensor, x: Tensor, norm: Norm, grad_x: Tensor, accumulate: bool) -> BnSums:
    """grad_x (+)= norm.scale * m; grad, x, grad_x [N, C, H, W]; grad_x may be grad."""
    sums = BnSums.empty(x.shape[1], x.device)
    launch(_core.bn_relu_backward, x, _map(grad), _map(x), norm.pointers(), _map(grad_x), accumulate, sums.pointers())
    return sums


@observed
def bn_relu_conv1x1_forward(
    x: Tensor, norm: Norm, weight: Tensor, out: Tensor, statistics: bool = False
) -> Tensor | None:
    """out [N, M, H, W] = conv1x1(bn_relu(x [N, C, H, W]), weight); with `statistics`, those of out as well."""
    result = _statistics(out, out.shape[1]) if statistics else None
    weight = _readable(weight, x)
    _expect_shape(weight, out.shape[1], x.shape[1], 1, 1)
    launch(_core.bn_relu_conv1x1_forward, x, _map(x), norm.pointers(), memory(weight), _map(out), *memories(result))
    return result


@observed
def bn_relu_conv1x1_backward(
    grad: CorrectedGradient,
    x: Tensor,
    norm: Norm,
    weight: Tensor,
    grad_x: Tensor | None,
    accumulate: bool,
    want_weight: bool = True,
) -> tuple[Tensor | None, BnSums]:
    """grad_x [N, C, H, W] (+)= norm.scale * m from grad [N, M, H, W]; returns the gradient of weight and the sums."""
    sums = BnSums.empty(x.shape[1], x.device)
    weight = _readable(weight, x)
    _expect_shape(weight, grad.grad.shape[1], x.shape[1], 1, 1)
    grad_weight = _like_weight(weight) if want_weight else None
    launch(
        _core.bn_relu_conv1x1_backward,
        x,
        grad.pointers(),
        _map(x),
        norm.pointers(),
        memory(weight),
        _NO_MAP if grad_x is None else _map(grad_x),
        accumulate,
        memory(grad_weight),
        sums.pointers(),
    )
    return grad_weight, sums


@observed
def bn_relu_conv3x3_forward(
    x: Tensor,
    norm: Norm,
    weight: Tensor,
    dilation: int,
    out: Tensor,
    first_row: int = 0,
    accumulate: bool = False,
    statistics: bool = False,
) -> Tensor | None:
    """out [N, K, h, W] (+)= conv3x3(bn_relu(x [N, C, H, W]), weight), zero padding as wide as the dilation.

    For a strip of rows: the first row of out is at `first_row` of x. With `statistics`, those of out as well.
    """
    result = _statistics(out, out.shape[1]) if statistics else None
    _expect_shape(weight, out.shape[1], x.shape[1], 3, 3)
    weight = backend_of(x.device).conv3x3_weights.for_forward(weight.to(x.dtype))
    launch(
        _core.bn_relu_conv3x3_forward,
        x,
        _map(x),
        first_row,
        norm.pointers(),
        memory(weight),
        dilation,
        _map(out),
        accumulate,
        *memories(result),
    )
    return result


@observed
def bn_relu_conv3x3_backward(
    grad: CorrectedGradient,
    x: Tensor,
    norm: Norm,
    weight: Tensor,
    dilation: int,
    grad_x: Tensor,
    grad_first_row: int = 0,
    first_row: int = 0,
    want_weight: bool = True,
) -> tuple[Tensor | None, BnSums]:
    """grad_x [N, C, h, W] = norm.scale * m from grad [N, K, H', W]; returns the gradient of weight and the sums.

    For a strip of rows: the first row of grad_x is at `first_row` of x [N, C, H, W] and at `grad_first_row` of grad;
    both reach beyond the strip by the dilation, as far as the image goes. Results count the strip's rows only.
    """
    sums = BnSums.empty(x.shape[1], x.device)
    _expect_shape(weight, grad.grad.shape[1], x.shape[1], 3, 3)
    weights, weight = backend_of(x.device).conv3x3_weights, weight.to(x.dtype)
    readable = weights.for_backward(weight)  # held until the kernel has been launched
    grad_weight = weights.empty_gradient(weight, real_dtype(x.dtype)) if want_weight else None
    launch(
        _core.bn_relu_conv3x3_backward,
        x,
        grad.pointers(),
        grad_first_row,
        _map(x),
        first_row,
        norm.pointers(),
        memory(readable),
        dilation,
        _map(grad_x),
        memory(grad_weight),
        sums.pointers(),
    )
    return None if grad_weight is None else weights.gradient(grad_weight, weight), sums


@observed
def bn_relu_avgpool2_forward(x: Tensor, norm: Norm, out: Tensor) -> None:
    """out [N, C, H // 2, W // 2] = avg_pool2d(bn_relu(x [N, C, H, W]), 2)."""
    launch(_core.bn_relu_avgpool2_forward, x, _map(x), norm.pointers(), _map(out))


@observed
def bn_relu_avgpool2_backward(grad: Tensor, x: Tensor, norm: Norm, grad_x: Tensor, accumulate: bool) -> BnSums:
    """grad_x [N, C, H, W] (+)= norm.scale * m from grad [N, C, H // 2, W // 2]."""
    sums = BnSums.empty(x.shape[1], x.device)
    launch(
        _core.bn_relu_avgpool2_backward,
        x,
        _map(grad),
        _map(x),
        norm.pointers(),
        _map(grad_x),
        accumulate,
        sums.pointers(),
    )
    return sums


@observed
def bn_relu_maxpool_forward(
    x: Tensor, norm: Norm | None, out: Tensor, first_row: int = 0, scale: Tensor | None = None
) -> None:
    """out [N, C, h, w] = max_pool2d(bn_relu(x [N, C, H, W]), 3, stride 2, padding 1).

    For a strip of rows: `first_row` of x is at the centre of the first row of out. On CUDA `norm` may be None: then out
    is the x that batch norm with a scale of the signs of `scale` [C] would make each window's maximum of.
    """
    pointers = _core.BnRelu(None, memory(scale), None) if norm is None else norm.pointers()
    launch(_core.bn_relu_maxpool_forward, x, _map(x), pointers, _map(out), first_row)


@observed
def bn_relu_maxpool_backward(
    grad: Tensor,
    x: Tensor,
    norm: Norm,
    grad_x: Tensor,
    first_row: int = 0,
    first_grad_row: int = 0,
    correction: tuple[Tensor, Tensor] | None = None,
) -> BnSums:
    """grad_x = norm.scale * m from grad [N, C, h, w], for the rows of x [N, C, H, W] from `first_grad_row` on.

    On CUDA there may be a `correction` (constant, slope), [C]: grad_x is less constant + slope * (x - norm.mean) then.
    """
    return _bn_relu_maxpool_backward(grad, x, norm, _map(grad_x), (first_row, first_grad_row), correction)


@observed
def bn_relu_maxpool_backward_sums(
    grad: Tensor, x: Tensor, norm: Norm, rows: int, first_row: int = 0, first_grad_row: int = 0
) -> BnSums:
    """The sums of bn_relu_maxpool_backward for a grad_x of so many rows, which is not written; on CUDA only."""
    n, c, _, w = x.shape
    absent = _core.FeatureMap(0, 0, x.element_size(), n, rows, w, c, c)
    return _bn_relu_maxpool_backward(grad, x, norm, absent, (first_row, first_grad_row), None)


def _bn_relu_maxpool_backward(
    grad: Tensor,
    x: Tensor,
    norm: Norm,
    grad_x: _core.FeatureMap,
    rows: tuple[int, int],
    correction: tuple[Tensor, Tensor] | None,
) -> BnSums:
    sums = BnSums.empty(x.shape[1], x.device)
    on_cuda = memories(correction) if backend_of(x.device).on_gpu else ()
    arguments = _map(grad), _map(x), norm.pointers(), grad_x, *rows, sums.pointers(), *on_cuda
    launch(_core.bn_relu_maxpool_backward, x, *arguments)
    return sums


@observed
def stem_forward(
    images: Tensor, weight: Tensor, scale: Tensor, norm: Norm | None, out: Tensor, statistics: bool = False
) -> Tensor | None:
    """out [N, K, h, w] = max_pool2d(bn_relu(x), 3, stride 2, padding 1) of x = conv7x7 with stride 2 and padding 3.

    images [N, C, H, W] of any strides; weight [K, C, 7, 7]. Without `norm`, out is the x that batch norm with a scale
    of the signs of `scale` [K] would make each window's maximum of. With `statistics`, returns those of x.
    """
    result = _statistics(out, out.shape[1]) if statistics else None
    pointers = _core.BnRelu(None, memory(scale), None) if norm is None else norm.pointers()
    weight = _stem_weight(images, weight, out)
    launch(_core.stem_forward, images, _images(images), memory(weight), pointers, _map(out), *memories(result))
    return result


@observed
def stem_backward_sums(grad: CorrectedGradient, images: Tensor, weight: Tensor, norm: Norm) -> BnSums:
    """The sums of the stem's batch norm from grad [N, K, h, w]."""
    sums = BnSums.empty(weight.shape[0], images.device)
    weight = _stem_weight(images, weight, grad.grad)
    launch(
        _core.stem_backward_sums,
        images,
        grad.pointers(),
        _images(images),
        memory(weight),
        norm.pointers(),
        sums.pointers(),
    )
    return sums


@observed
def stem_backward_weight(
    grad: CorrectedGradient, images: Tensor, weight: Tensor, norm: Norm, constant: Tensor, slope: Tensor
) -> Tensor:
    """The gradient of weight from grad [N, K, h, w].

    That of x is norm.scale * m - constant - slope * (x - norm.mean), with vectors [K].
    """
    weight = _stem_weight(images, weight, grad.grad)
    grad_weight = _like_weight(weight)
    launch(
        _core.stem_backward_weight,
        images,
        grad.pointers(),
        _images(images),
        memory(weight),
        norm.pointers(),
        memory(constant),
        memory(slope),
        memory(grad_weight),
    )
    return grad_weight


@observed
def upsample_forward(coarse: Tensor, out: Tensor, first_row: int = 0, height: int | None = None) -> None:
    """out [N, D, H, W] = coarse [N, D, h, w], upsampled bilinearly.

    For a strip of rows: out is rows first_row.. of an upsampled map of `height` rows.
    """
    height = out.shape[2] if height is None else height
    launch(_core.upsample_forward, coarse, _map(coarse), _map(out), first_row, height)


@observed
def upsample_backward(grad: Tensor, grad_coarse: Tensor) -> None:
    """grad_coarse [N, D, h, w] = transpose of the upsampling to grad [N, D, H, W]."""
    launch(_core.upsample_backward, grad, _map(grad), _map(grad_coarse))


@observed
def upsample_project_concat_forward(coarse: Tensor, skip: Tensor, norm: Norm, weight: Tensor, out: Tensor) -> None:
    """out [N, D + M, H, W] from coarse [N, D, h, w] and skip [N, C, H, W]."""
    weight = _readable(weight, skip)
    _expect_shape(weight, out.shape[1] - coarse.shape[1], skip.shape[1], 1, 1)
    launch(
        _core.upsample_project_concat_forward,
        skip,
        _map(coarse),
        _map(skip),
        norm.pointers(),
        memory(weight),
        _map(out),
    )


@observed
def upsample_cross_entropy(
    logits: Tensor, labels: Tensor, class_weights: Tensor | None, ignore_index: int, grad_logits: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Scalars: the loss (float64), and the index of a pixel whose label is invalid, or -1 (int64).

    Fills grad_logits if given.

    logits [N, K, h, w]; labels [N, H, W], contiguous, uint8, int32 or int64; class_weights [K] contiguous.
    """
    loss = torch.empty((), dtype=torch.float64, device=logits.device)
    invalid_pixel = torch.empty((), dtype=torch.int64, device=logits.device)
    launch(
        _core.upsample_cross_entropy,
        logits,
        _map(logits),
        memory(labels),
        _LABEL_TYPES[labels.dtype],
        *labels.shape[1:],
        memory(class_weights),
        ignore_index,
        memory(loss),
        _NO_MAP if grad_logits is None else _map(grad_logits),
        memory(invalid_pixel),
    )
    return loss, invalid_pixel


@observed
def upsample_argmax(scores: Tensor, labels: Tensor) -> None:
    """labels [N, H, W] uint8, contiguous, from scores [N, K, h, w]."""
    launch(_core.upsample_argmax, scores, _map(scores), memory(labels), *labels.shape[1:])


def _map(x: Tensor) -> _core.FeatureMap:
    stride = pixel_stride(x)
    if stride is None:
        raise ValueError(f"a map must be pixel-major, got shape {tuple(x.shape)}, strides {x.stride()}")
    n, c, h, w = x.shape
    return _core.FeatureMap(address(x), x.get_device(), x.element_size(), n, h, w, c, stride)


def _readable(weight: Tensor, x: Tensor) -> Tensor:
    """`weight` as kernels that read maps like `x` take it."""
    return weight.to(x.dtype).contiguous()


def _like_weight(weight: Tensor) -> Tensor:
    """Room for the gradient of what _readable returned."""
    return torch.empty(weight.shape, dtype=real_dtype(weight.dtype), device=weight.device)


def _images(x: Tensor) -> _core.Images:
    return _core.Images(address(x), x.get_device(), x.element_size(), *x.shape, *x.stride())


def _stem_weight(images: Tensor, weight: Tensor, pooled: Tensor) -> Tensor:
    """`weight`, contiguous."""
    _expect_shape(weight, pooled.shape[1], images.shape[1], 7, 7)
    return _readable(weight, images)


def _expect_shape(weight: Tensor, *shape: int) -> None:
    """Where another arrangement of as many numbers would pass the core's own checks, which are of extents."""
    if weight.shape != shape:
        raise ValueError(f"weight must be {list(shape)} for these maps, got {list(weight.shape)}")


def _statistics(like: Tensor, channels: int) -> Tensor:
    return torch.empty((2, channels), dtype=torch.float64, device=like.device)
