"""Batch norm, the sum with a shortcut, and rectification: the end of a residual unit."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .. import _core
from .arguments import BnSums, Gradient, Norm
from .backend import launch
from .bn_relu import plain_batch_norm
from .checks import check_batch_norm, check_grad, check_like, check_map, check_vector
from .kernel import kernel
from .layout import empty, pixel_major
from .pointers import feature_map
from .registration import no_double_backward, operator, reference_of, vector_gradients
from .transforms import refuse_tangents

_NO_NORM = _core.Norm(None, None, None)
_NO_SUMS = _core.BnSums(None, None)


def bn_add_relu(
    x: Tensor,
    mean: Tensor,
    invstd: Tensor,
    gamma: Tensor | None,
    beta: Tensor | None,
    shortcut: Tensor,
    shortcut_mean: Tensor | None = None,
    shortcut_invstd: Tensor | None = None,
    shortcut_gamma: Tensor | None = None,
    shortcut_beta: Tensor | None = None,
) -> Tensor:
    """relu(bn(x) + shortcut), or relu(bn(x) + bn(shortcut)): the end of a residual unit.

    bn(x) is (x - mean) * invstd * gamma + beta, per channel, and that of the shortcut likewise with its own vectors.

    Args:
        x: [N, C, H, W], float32, float64, bfloat16 or (CUDA) float16; channels_last is read without a copy.
        mean, invstd: [C], statistics of x or constants; float32 beside 16-bit x, else of its dtype.
        gamma, beta: [C] or None, for 1 and 0; of the dtype of mean.
        shortcut: [N, C, H, W], of the dtype of x.
        shortcut_mean, shortcut_invstd: [C]; None, both, if the shortcut is added as it is.
        shortcut_gamma, shortcut_beta: [C] or None, for 1 and 0; None without shortcut_mean.
    Returns:
        [N, C, H, W], channels_last.
    Raises:
        ValueError: a shape or device does not fit.
        TypeError: a dtype does not fit, or only some vectors of the shortcut are given.
    Source: ALGORITHMS.md section 8.
    Equivalent to: ops.reference.bn_add_relu.
    """
    inputs = (
        x,
        mean,
        invstd,
        gamma,
        beta,
        shortcut,
        shortcut_mean,
        shortcut_invstd,
        shortcut_gamma,
        shortcut_beta,
    )
    refuse_tangents("bn_add_relu", inputs)
    return _forward(*inputs)


@reference_of(bn_add_relu)
def _plain(
    x: Tensor,
    mean: Tensor,
    invstd: Tensor,
    gamma: Tensor | None,
    beta: Tensor | None,
    shortcut: Tensor,
    shortcut_mean: Tensor | None = None,
    shortcut_invstd: Tensor | None = None,
    shortcut_gamma: Tensor | None = None,
    shortcut_beta: Tensor | None = None,
) -> Tensor:
    """relu(bn(x) + shortcut) of x and shortcut [N, C, H, W]; with shortcut_mean and shortcut_invstd, + bn(shortcut)."""
    if shortcut_mean is not None and shortcut_invstd is not None:
        shortcut = plain_batch_norm(shortcut, shortcut_mean, shortcut_invstd, shortcut_gamma, shortcut_beta)
    return F.relu(plain_batch_norm(x, mean, invstd, gamma, beta) + shortcut)


@kernel("bn_add_relu_forward")
def bn_add_relu_forward(x: Tensor, norm: Norm, shortcut: Tensor, shortcut_norm: Norm | None, out: Tensor) -> None:
    """Computes out = relu(bn(x) + s), [N, C, H, W]; s is shortcut, or shortcut_norm of it. out may be x or shortcut."""
    of_shortcut = _NO_NORM if shortcut_norm is None else shortcut_norm.pointers()
    pointers = feature_map(x), norm.pointers(), feature_map(shortcut), of_shortcut, feature_map(out)
    launch(_core.bn_add_relu_forward, x, *pointers)


@kernel("bn_add_relu_backward")
def bn_add_relu_backward(
    grad: Gradient,
    out: Tensor,
    x: Tensor,
    norm: Norm,
    shortcut: Tensor | None,
    shortcut_norm: Norm | None,
    grad_x: Tensor | None,
    grad_shortcut: Tensor | None,
    accumulate: bool = False,
) -> tuple[BnSums, BnSums | None]:
    """Computes grad_x = norm.scale * m and grad_shortcut (+)= m, or shortcut_norm.scale * m; returns the sums of both.

    m is the gradient where out is above 0. All maps are [N, C, H, W]; grad_shortcut may be grad.grad, unless it is
    accumulated. `shortcut` is read only with a `shortcut_norm`, and without one there are no sums of the shortcut.
    """
    sums = BnSums.empty(x.shape[1], x.device)
    shortcut_sums = None if shortcut_norm is None else BnSums.empty(x.shape[1], x.device)
    launch(
        _core.bn_add_relu_backward,
        x,
        grad.pointers(),
        feature_map(out),
        feature_map(x),
        norm.pointers(),
        feature_map(None if shortcut_norm is None else shortcut),
        _NO_NORM if shortcut_norm is None else shortcut_norm.pointers(),
        feature_map(grad_x),
        feature_map(grad_shortcut),
        accumulate,
        sums.pointers(),
        _NO_SUMS if shortcut_sums is None else shortcut_sums.pointers(),
    )
    return sums, shortcut_sums


_VECTORS = "Tensor mean, Tensor invstd, Tensor? gamma, Tensor? beta"
_SHORTCUT_VECTORS = "Tensor? shortcut_mean, Tensor? shortcut_invstd, Tensor? shortcut_gamma, Tensor? shortcut_beta"


@operator("bn_add_relu", schema=f"(Tensor x, {_VECTORS}, Tensor shortcut, {_SHORTCUT_VECTORS}) -> Tensor")
def _forward(*inputs: Any) -> Tensor:
    out = _empty_output(*inputs)
    x, *vectors = inputs[:5]
    shortcut, *of_shortcut = inputs[5:]
    bn_add_relu_forward(pixel_major(x), Norm.of(*vectors), pixel_major(shortcut), _norm_of_shortcut(*of_shortcut), out)
    return out


@_forward.register_fake
def _empty_output(*inputs: Any) -> Tensor:
    _check(*inputs)
    return empty(inputs[0], *inputs[0].shape)


@operator(
    "bn_add_relu_backward",
    schema=f"(Tensor grad, Tensor out, Tensor x, {_VECTORS}, Tensor? shortcut, {_SHORTCUT_VECTORS})"
    " -> (Tensor, Tensor, Tensor, Tensor, Tensor)",
)
def _backward(grad: Tensor, out: Tensor, *inputs: Any) -> tuple[Tensor, ...]:
    """Gradients of x and of the shortcut; sum(m), and sum(m * (x - mean)) of x and of the shortcut, if it has a norm.

    The sums are of the dtype of mean. Without a norm `shortcut` is None, and the last sum is empty.
    """
    x, *vectors = inputs[:5]
    shortcut, *of_shortcut = inputs[5:]
    _check(*inputs[:5], x if shortcut is None else shortcut, *of_shortcut)
    check_grad(grad, tuple(x.shape), x)
    x, norm = pixel_major(x), Norm.of(*vectors)
    grad_x, grad_shortcut = (empty(x, *x.shape) for _ in range(2))
    sums, shortcut_sums = bn_add_relu_backward(
        Gradient(pixel_major(grad)),
        pixel_major(out),
        x,
        norm,
        None if shortcut is None else pixel_major(shortcut),
        _norm_of_shortcut(*of_shortcut),
        grad_x,
        grad_shortcut,
    )
    centred = x.new_empty(0) if shortcut_sums is None else shortcut_sums.centred
    return (
        grad_x,
        grad_shortcut,
        *(each.to(norm.mean.dtype, copy=True) for each in (sums.masked, sums.centred, centred)),
    )


@_backward.register_fake
def _(grad: Tensor, out: Tensor, *inputs: Any) -> tuple[Tensor, ...]:
    x, mean, *_ = inputs
    centred = mean.new_empty(0) if inputs[6] is None else torch.empty_like(mean)
    maps = (empty(x, *x.shape) for _ in range(2))
    return *maps, torch.empty_like(mean), torch.empty_like(mean), centred


def _norm_of_shortcut(
    mean: Tensor | None, invstd: Tensor | None, gamma: Tensor | None, beta: Tensor | None
) -> Norm | None:
    return None if mean is None or invstd is None else Norm.of(mean, invstd, gamma, beta)


def _check(
    x: Tensor,
    mean: Tensor,
    invstd: Tensor,
    gamma: Tensor | None,
    beta: Tensor | None,
    shortcut: Tensor,
    *of_shortcut: Tensor | None,
) -> None:
    check_batch_norm("x", x, mean, invstd, gamma, beta)
    check_map("shortcut", shortcut)
    check_like("shortcut", shortcut, "x", x)
    if shortcut.shape != x.shape:
        raise ValueError(f"shortcut must be {list(x.shape)} like x, got {list(shortcut.shape)}")
    vectors = {f"shortcut_{name}": v for name, v in zip(("mean", "invstd", "gamma", "beta"), of_shortcut, strict=True)}
    given = [name for name, vector in vectors.items() if vector is not None]
    for name in ("shortcut_mean", "shortcut_invstd"):
        if given and vectors[name] is None:
            raise TypeError(f"{name} must be a tensor [{x.shape[1]}] if there is {given[0]}, got None")
    for name, vector in vectors.items():
        check_vector(name, vector, x.shape[1], "shortcut", shortcut)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    *first, shortcut, shortcut_mean, shortcut_invstd, shortcut_gamma, shortcut_beta = inputs
    needed = None if shortcut_mean is None else shortcut
    ctx.save_for_backward(output, *first, needed, shortcut_mean, shortcut_invstd, shortcut_gamma, shortcut_beta)


def _autograd(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    saved = ctx.saved_tensors
    grad_x, grad_shortcut, masked, centred, shortcut_centred = _backward(grad, *saved)
    _, invstd, gamma, beta = saved[2:6]
    shortcut_mean, shortcut_invstd, shortcut_gamma, shortcut_beta = saved[7:]
    of_shortcut: tuple[Tensor | None, ...] = (None,) * 4
    if shortcut_mean is not None:
        of_shortcut = vector_gradients(masked, shortcut_centred, shortcut_invstd, shortcut_gamma, shortcut_beta)
    return grad_x, *vector_gradients(masked, centred, invstd, gamma, beta), grad_shortcut, *of_shortcut


_forward.register_autograd(_autograd, setup_context=_setup_context)
no_double_backward(_backward)
