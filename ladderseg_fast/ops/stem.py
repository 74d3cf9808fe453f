"""The stem: 7x7 convolution with stride 2, batch norm, rectification and 3x3 max pooling with stride 2.

The output of its convolution is the largest map of a network. It never exists in full: each function here recomputes
it in parts. On CUDA devices these are strips of rows of about STRIP_BYTES.
"""

from torch import Tensor

from .. import _core
from .arguments import (
    BnSums,
    Correction,
    Gradient,
    Norm,
    empty_statistics,
    empty_weight_gradient,
    norm_or_scale,
    readable_weight,
)
from .backend import launch
from .cost import pixels
from .kernel import kernel
from .pointers import feature_map, image_batch, memories, memory

#: Bytes of the convolution's output that exist at once on a CUDA device, unless two rows of an image take more.
STRIP_BYTES = 64 << 20


def _convolution(images: Tensor, weight: Tensor, **_: object) -> float:
    """Multiplications and additions of the convolution."""
    return 2.0 * weight.numel() * pixels(images) / 4


def _two_convolutions(**arguments: object) -> float:
    """The convolution, and that of its gradient."""
    return 2.0 * _convolution(**arguments)  # type: ignore[arg-type]  # they are those of the kernel's function


@kernel("stem_forward", "stem", _convolution)
def stem_forward(
    images: Tensor,
    weight: Tensor,
    scale: Tensor,
    norm: Norm | None,
    out: Tensor,
    statistics: bool = False,
    strip_bytes: int = STRIP_BYTES,
) -> Tensor | None:
    """Computes out [N, K, h, w] = max_pool2d(bn_relu(x), 3, stride 2, padding 1) of x = conv7x7 (stride 2, padding 3).

    images [N, C, H, W] of any strides; weight [K, C, 7, 7]. Without `norm`, out is the x that would be each window's
    maximum after a batch norm with the signs of `scale` [K]. With `statistics`, returns the statistics of x.
    """
    result = empty_statistics(out) if statistics else None
    weight = readable_weight(weight, images.dtype, images.shape[1], out.shape[1], 7)
    pointers = image_batch(images), memory(weight), norm_or_scale(norm, scale), feature_map(out), *memories(result)
    launch(_core.stem_forward, images, *pointers, strip_bytes)
    return result


@kernel("stem_backward_sums", "stem", _convolution)
def stem_backward_sums(
    grad: Gradient, images: Tensor, weight: Tensor, norm: Norm, strip_bytes: int = STRIP_BYTES
) -> BnSums:
    """Sums of the stem's batch norm from grad [N, K, h, w]."""
    sums = BnSums.empty(weight.shape[0], images.device)
    weight = readable_weight(weight, images.dtype, images.shape[1], grad.grad.shape[1], 7)
    pointers = grad.pointers(), image_batch(images), memory(weight), norm.pointers(), sums.pointers()
    launch(_core.stem_backward_sums, images, *pointers, strip_bytes)
    return sums


@kernel("stem_backward_weight", "stem", _two_convolutions)
def stem_backward_weight(
    grad: Gradient,
    images: Tensor,
    weight: Tensor,
    norm: Norm,
    correction: Correction,
    strip_bytes: int = STRIP_BYTES,
) -> Tensor:
    """Gradient of weight from grad [N, K, h, w]; `correction` applies to the batch norm's input and has norm's mean."""
    weight = readable_weight(weight, images.dtype, images.shape[1], grad.grad.shape[1], 7)
    grad_weight = empty_weight_gradient(weight)
    launch(
        _core.stem_backward_weight,
        images,
        grad.pointers(),
        image_batch(images),
        memory(weight),
        norm.pointers(),
        memory(correction.constant),
        memory(correction.slope),
        memory(grad_weight),
        strip_bytes,
    )
    return grad_weight


@kernel("stem_backward_images", "stem", _two_convolutions)
def stem_backward_images(
    grad: Gradient,
    images: Tensor,
    weight: Tensor,
    norm: Norm,
    correction: Correction,
    grad_images: Tensor,
    strip_bytes: int = STRIP_BYTES,
) -> None:
    """Adds the gradient of the images to `grad_images` [N, C, H, W], a map; `correction` as in stem_backward_weight."""
    weight = readable_weight(weight, images.dtype, images.shape[1], grad.grad.shape[1], 7)
    launch(
        _core.stem_backward_images,
        images,
        grad.pointers(),
        image_batch(images),
        memory(weight),
        norm.pointers(),
        memory(correction.constant),
        memory(correction.slope),
        feature_map(grad_images),
        strip_bytes,
    )
