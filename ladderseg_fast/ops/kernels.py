"""The core's kernels on tensors: where pointers are taken and nothing else happens.

Feature maps are pixel-major tensors [N, C, H, W] (layout.py) of one dtype, float32 or float64. Outputs are
written in place; whoever calls has checked the arguments (checks.py, or by construction in the lean step).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from .. import _core
from .layout import pixel_stride

DTYPES = (torch.float32, torch.float64)

_NO_MAP = _core.FeatureMap(0, 0, 0, 0, 0, 0)
_NO_CORRECTION = _core.Correction(_NO_MAP, 0, 0, 0)

_LABEL_TYPES = {
    torch.uint8: _core.LabelType.uint8,
    torch.int32: _core.LabelType.int32,
    torch.int64: _core.LabelType.int64,
}


@dataclass
class Norm:
    """Batch norm as the kernels take it: relu((x - mean) * scale + shift), per channel.

    mean, scale and shift are contiguous [C] of the dtype of x.
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

    def pointers(self, x: Tensor) -> _core.BnRelu:
        """For a kernel that reads `x` [N, C, H, W]."""
        assert len(self.mean) == len(self.scale) == len(self.shift) == x.shape[1]
        return _core.BnRelu(self.mean.data_ptr(), self.scale.data_ptr(), self.shift.data_ptr())


@dataclass
class BnSums:
    """What batch norm's backward needs of the masked gradient m: sum(m) and sum(m * (x - mean)), [C] float64."""

    masked: Tensor
    centred: Tensor

    @staticmethod
    def zeros(channels: int, device: torch.device) -> "BnSums":
        return BnSums(*torch.zeros((2, channels), dtype=torch.float64, device=device))

    @staticmethod
    def cat(parts: "list[BnSums]") -> "BnSums":
        """Those of maps that lie side by side in one."""
        return BnSums(torch.cat([part.masked for part in parts]), torch.cat([part.centred for part in parts]))

    def pointers(self) -> _core.BnSums:
        return _core.BnSums(self.masked.data_ptr(), self.centred.data_ptr())

    def __iadd__(self, other: "BnSums") -> "BnSums":
        self.masked += other.masked
        self.centred += other.centred
        return self


@dataclass
class CorrectedGradient:
    """A gradient [N, C, H, W] whose batch norm correction is deferred to whoever reads it.

    Its value is grad - constant - slope * (x - mean), with vectors [C] of the dtype of grad; without x it is grad.
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
        assert self.x.shape == self.grad.shape
        vectors = (self.mean.data_ptr(), self.constant.data_ptr(), self.slope.data_ptr())
        return _core.Gradient(_map(self.grad), _core.Correction(_map(self.x), *vectors))


def channel_statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance [C] float64 of x [N, C, H, W]."""
    mean, variance = _statistics(x, x.shape[1])
    _core.channel_statistics(_double(x), _map(x), mean.data_ptr(), variance.data_ptr(), _threads(x))
    return mean, variance


def affine_correction(gradient: CorrectedGradient, out: Tensor) -> None:
    """out = the value of `gradient`, which has an x; [N, C, H, W]; out may be gradient.grad."""
    _core.affine_correction(_double(out), gradient.pointers(), _map(out), _threads(out))


def bn_relu_forward(x: Tensor, norm: Norm, out: Tensor) -> None:
    """out = bn_relu(x), [N, C, H, W]."""
    _core.bn_relu_forward(_double(x), _map(x), norm.pointers(x), _map(out), _threads(x))


def bn_relu_backward(grad: Tensor, x: Tensor, norm: Norm, grad_x: Tensor, accumulate: bool) -> BnSums:
    """grad_x (+)= norm.scale * m; grad, x, grad_x [N, C, H, W]; grad_x may be grad."""
    sums = BnSums.zeros(x.shape[1], x.device)
    _core.bn_relu_backward(
        _double(x), _map(grad), _map(x), norm.pointers(x), _map(grad_x), accumulate, sums.pointers(), _threads(x)
    )
    return sums


def bn_relu_conv1x1_forward(
    x: Tensor, norm: Norm, weight: Tensor, out: Tensor, statistics: bool = False
) -> tuple[Tensor, Tensor] | None:
    """out [N, M, H, W] = conv1x1(bn_relu(x [N, C, H, W]), weight); with `statistics`, those of out as well."""
    result = _statistics(out, out.shape[1]) if statistics else None
    weight = weight.contiguous()
    assert weight.shape[:2] == (out.shape[1], x.shape[1])
    _core.bn_relu_conv1x1_forward(
        _double(x), _map(x), norm.pointers(x), weight.data_ptr(), _map(out), *_addresses(result), _threads(x)
    )
    return result


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
    sums = BnSums.zeros(x.shape[1], x.device)
    weight = weight.contiguous()
    assert weight.shape[:2] == (grad.grad.shape[1], x.shape[1])
    grad_weight = torch.empty_like(weight) if want_weight else None
    _core.bn_relu_conv1x1_backward(
        _double(x),
        grad.pointers(),
        _map(x),
        norm.pointers(x),
        weight.data_ptr(),
        _NO_MAP if grad_x is None else _map(grad_x),
        accumulate,
        0 if grad_weight is None else grad_weight.data_ptr(),
        sums.pointers(),
        _threads(x),
    )
    return grad_weight, sums


def bn_relu_conv3x3_forward(
    x: Tensor,
    norm: Norm,
    weight: Tensor,
    dilation: int,
    out: Tensor,
    first_row: int = 0,
    accumulate: bool = False,
    statistics: bool = False,
) -> tuple[Tensor, Tensor] | None:
    """out [N, K, h, W] (+)= conv3x3(bn_relu(x [N, C, H, W]), weight), zero padding as wide as the dilation.

    For a strip of rows: the first row of out is at `first_row` of x. With `statistics`, those of out as well.
    """
    result = _statistics(out, out.shape[1]) if statistics else None
    weight = weight.contiguous()
    assert weight.shape == (out.shape[1], x.shape[1], 3, 3)
    assert (x.shape[0], x.shape[3]) == (out.shape[0], out.shape[3])
    _core.bn_relu_conv3x3_forward(
        _double(x),
        _map(x),
        first_row,
        norm.pointers(x),
        weight.data_ptr(),
        dilation,
        _map(out),
        accumulate,
        *_addresses(result),
        _threads(x),
    )
    return result


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
    sums = BnSums.zeros(x.shape[1], x.device)
    weight = weight.contiguous()
    assert weight.shape == (grad.grad.shape[1], x.shape[1], 3, 3)
    grad_weight = torch.empty_like(weight) if want_weight else None
    _core.bn_relu_conv3x3_backward(
        _double(x),
        grad.pointers(),
        grad_first_row,
        _map(x),
        first_row,
        norm.pointers(x),
        weight.data_ptr(),
        dilation,
        _map(grad_x),
        0 if grad_weight is None else grad_weight.data_ptr(),
        sums.pointers(),
        _threads(x),
    )
    return grad_weight, sums


def bn_relu_avgpool2_forward(x: Tensor, norm: Norm, out: Tensor) -> None:
    """out [N, C, H // 2, W // 2] = avg_pool2d(bn_relu(x [N, C, H, W]), 2)."""
    _core.bn_relu_avgpool2_forward(_double(x), _map(x), norm.pointers(x), _map(out), _threads(x))


def bn_relu_avgpool2_backward(grad: Tensor, x: Tensor, norm: Norm, grad_x: Tensor, accumulate: bool) -> BnSums:
    """grad_x [N, C, H, W] (+)= norm.scale * m from grad [N, C, H // 2, W // 2]."""
    sums = BnSums.zeros(x.shape[1], x.device)
    _core.bn_relu_avgpool2_backward(
        _double(x), _map(grad), _map(x), norm.pointers(x), _map(grad_x), accumulate, sums.pointers(), _threads(x)
    )
    return sums


def bn_relu_maxpool_forward(x: Tensor, norm: Norm, out: Tensor, first_row: int = 0) -> None:
    """out [N, C, h, w] = max_pool2d(bn_relu(x [N, C, H, W]), 3, stride 2, padding 1).

    For a strip of rows: `first_row` of x is at the centre of the first row of out.
    """
    _core.bn_relu_maxpool_forward(_double(x), _map(x), norm.pointers(x), _map(out), first_row, _threads(x))


def bn_relu_maxpool_backward(
    grad: Tensor, x: Tensor, norm: Norm, grad_x: Tensor, first_row: int = 0, first_grad_row: int = 0
) -> BnSums:
    """grad_x = norm.scale * m from grad [N, C, h, w], for the rows of x [N, C, H, W] from `first_grad_row` on."""
    sums = BnSums.zeros(x.shape[1], x.device)
    rows = (first_row, first_grad_row)
    _core.bn_relu_maxpool_backward(
        _double(x), _map(grad), _map(x), norm.pointers(x), _map(grad_x), *rows, sums.pointers(), _threads(x)
    )
    return sums


def stem_forward(
    images: Tensor, weight: Tensor, scale: Tensor, norm: Norm | None, out: Tensor, statistics: bool = False
) -> tuple[Tensor, Tensor] | None:
    """out [N, K, h, w] = max_pool2d(bn_relu(x), 3, stride 2, padding 1) of x = conv7x7 with stride 2 and padding 3.

    images [N, C, H, W] of any strides; weight [K, C, 7, 7]. Without `norm`, out is the x that batch norm with a scale
    of the signs of `scale` [K] would make each window's maximum of. With `statistics`, returns those of x.
    """
    result = _statistics(out, out.shape[1]) if statistics else None
    pointers = _core.BnRelu(0, scale.data_ptr(), 0) if norm is None else norm.pointers(out)
    weight = _stem_weight(images, weight, out)
    _core.stem_forward(
        _double(images), _images(images), weight.data_ptr(), pointers, _map(out), *_addresses(result), _threads(images)
    )
    return result


def stem_backward_sums(grad: CorrectedGradient, images: Tensor, weight: Tensor, norm: Norm) -> BnSums:
    """The sums of the stem's batch norm from grad [N, K, h, w]."""
    sums = BnSums.zeros(weight.shape[0], images.device)
    weight = _stem_weight(images, weight, grad.grad)
    _core.stem_backward_sums(
        _double(images),
        grad.pointers(),
        _images(images),
        weight.data_ptr(),
        norm.pointers(grad.grad),
        sums.pointers(),
        _threads(images),
    )
    return sums


def stem_backward_weight(
    grad: CorrectedGradient, images: Tensor, weight: Tensor, norm: Norm, constant: Tensor, slope: Tensor
) -> Tensor:
    """The gradient of weight from grad [N, K, h, w].

    That of x is norm.scale * m - constant - slope * (x - norm.mean), with vectors [K].
    """
    weight = _stem_weight(images, weight, grad.grad)
    grad_weight = torch.empty_like(weight)
    assert len(constant) == len(slope) == weight.shape[0]
    _core.stem_backward_weight(
        _double(images),
        grad.pointers(),
        _images(images),
        weight.data_ptr(),
        norm.pointers(grad.grad),
        constant.data_ptr(),
        slope.data_ptr(),
        grad_weight.data_ptr(),
        _threads(images),
    )
    return grad_weight


def upsample_forward(coarse: Tensor, out: Tensor, first_row: int = 0, height: int | None = None) -> None:
    """out [N, D, H, W] = coarse [N, D, h, w], upsampled bilinearly.

    For a strip of rows: out is rows first_row.. of an upsampled map of `height` rows.
    """
    height = out.shape[2] if height is None else height
    _core.upsample_forward(_double(coarse), _map(coarse), _map(out), first_row, height, _threads(coarse))


def upsample_backward(grad: Tensor, grad_coarse: Tensor) -> None:
    """grad_coarse [N, D, h, w] = transpose of the upsampling to grad [N, D, H, W]."""
    _core.upsample_backward(_double(grad), _map(grad), _map(grad_coarse), _threads(grad))


def upsample_project_concat_forward(coarse: Tensor, skip: Tensor, norm: Norm, weight: Tensor, out: Tensor) -> None:
    """out [N, D + M, H, W] from coarse [N, D, h, w] and skip [N, C, H, W]."""
    weight = weight.contiguous()
    assert weight.shape[:2] == (out.shape[1] - coarse.shape[1], skip.shape[1])
    _core.upsample_project_concat_forward(
        _double(skip),
        _map(coarse),
        _map(skip),
        norm.pointers(skip),
        weight.data_ptr(),
        _map(out),
        _threads(skip),
    )


def upsample_cross_entropy(
    logits: Tensor, labels: Tensor, class_weights: Tensor | None, ignore_index: int, grad_logits: Tensor | None
) -> tuple[Tensor, int]:
    """Loss (scalar float64) and the index of a pixel whose label is invalid, or -1; fills grad_logits if given.

    logits [N, K, h, w]; labels [N, H, W], contiguous, uint8, int32 or int64; class_weights [K] contiguous.
    """
    loss = torch.empty((), dtype=torch.float64, device=logits.device)
    invalid_pixel = torch.empty((), dtype=torch.int64)
    _core.upsample_cross_entropy(
        _double(logits),
        _map(logits),
        labels.data_ptr(),
        _LABEL_TYPES[labels.dtype],
        *labels.shape[1:],
        0 if class_weights is None else class_weights.data_ptr(),
        ignore_index,
        loss.data_ptr(),
        _NO_MAP if grad_logits is None else _map(grad_logits),
        invalid_pixel.data_ptr(),
        _threads(logits),
    )
    return loss, int(invalid_pixel)


def upsample_argmax(scores: Tensor, labels: Tensor) -> None:
    """labels [N, H, W] uint8, contiguous, from scores [N, K, h, w]."""
    _core.upsample_argmax(_double(scores), _map(scores), labels.data_ptr(), *labels.shape[1:], _threads(scores))


def _map(x: Tensor) -> _core.FeatureMap:
    stride = pixel_stride(x)
    assert stride is not None, f"not pixel-major: shape {tuple(x.shape)}, strides {x.stride()}"
    n, c, h, w = x.shape
    return _core.FeatureMap(x.data_ptr(), n, h, w, c, stride)


def _images(x: Tensor) -> _core.Images:
    return _core.Images(x.data_ptr(), *x.shape, *x.stride())


def _stem_weight(images: Tensor, weight: Tensor, pooled: Tensor) -> Tensor:
    """`weight`, contiguous; the shapes belong together."""
    n, c, h, w = images.shape
    assert weight.shape == (pooled.shape[1], c, 7, 7)
    assert pooled.shape == (n, len(weight), (h + 3) // 4, (w + 3) // 4)
    return weight.contiguous()


def _double(x: Tensor) -> bool:
    return x.dtype == torch.float64


def _threads(x: Tensor) -> int:
    """Size of the team; a kernel on CPU memory is the only one that this build has."""
    if x.device.type != "cpu":
        raise RuntimeError(f"ladderseg_fast has no kernels for device {x.device}: this build runs on the CPU only")
    return torch.get_num_threads()


def _statistics(like: Tensor, channels: int) -> tuple[Tensor, Tensor]:
    mean, variance = torch.empty((2, channels), dtype=torch.float64, device=like.device)
    return mean, variance


def _addresses(statistics: tuple[Tensor, Tensor] | None) -> tuple[int, int]:
    return (0, 0) if statistics is None else (statistics[0].data_ptr(), statistics[1].data_ptr())
