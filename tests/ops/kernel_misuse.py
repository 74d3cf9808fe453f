"""Calls of every CPU kernel, each with one argument that does not fit the others: all must raise.

A program of its own, for what gets through may end the process; see test_kernels.py. Prints how many calls it tried.
"""

import copy
import sys
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any

import torch
from torch import Tensor

from ladderseg_fast.ops.affine_correction import affine_correction
from ladderseg_fast.ops.arguments import BnSums, Correction, Gradient, Norm
from ladderseg_fast.ops.batch_norm import batch_norm_backward, batch_norm_forward
from ladderseg_fast.ops.bn_add_relu import bn_add_relu_backward, bn_add_relu_forward
from ladderseg_fast.ops.bn_relu import bn_relu_backward, bn_relu_forward
from ladderseg_fast.ops.bn_relu_avgpool2 import bn_relu_avgpool2_backward, bn_relu_avgpool2_forward
from ladderseg_fast.ops.bn_relu_conv1x1 import bn_relu_conv1x1_backward, bn_relu_conv1x1_forward, bn_relu_conv1x1_weight
from ladderseg_fast.ops.bn_relu_conv3x3 import bn_relu_conv3x3_backward, bn_relu_conv3x3_forward
from ladderseg_fast.ops.bn_relu_maxpool import bn_relu_maxpool_backward, bn_relu_maxpool_forward
from ladderseg_fast.ops.bn_relu_patches import bn_relu_patches_backward, bn_relu_patches_forward
from ladderseg_fast.ops.layout import pixel_major
from ladderseg_fast.ops.loss_kernels import loss_and_gradient, write_pixel_losses
from ladderseg_fast.ops.stem import stem_backward_images, stem_backward_sums, stem_backward_weight, stem_forward
from ladderseg_fast.ops.upsample import upsample_backward, upsample_forward
from ladderseg_fast.ops.upsample_argmax import write_labels
from ladderseg_fast.ops.upsample_project_concat import upsample_project_concat_forward

N, C, M, H, W = 2, 24, 16, 16, 16


def a_map(channels: int, height: int = H, width: int = W, n: int = N) -> Tensor:
    return pixel_major(torch.randn(n, channels, height, width))


def a_norm(channels: int) -> Norm:
    return Norm(torch.randn(channels), torch.rand(channels) + 0.5, torch.randn(channels))


def a_gradient(channels: int, height: int = H, width: int = W) -> Gradient:
    vectors = (torch.randn(channels) for _ in range(3))
    return Gradient(a_map(channels, height, width), a_map(channels, height, width), Correction(*vectors))


def a_batch_norm_backward(sums: BnSums, invstd: Tensor, norm: Norm, correction: Any) -> None:
    batch_norm_backward(sums, invstd, norm, N * H * W, correction, accumulate=False)


def a_batch_norm_forward(statistics: Tensor, mean: Tensor, variance: Tensor, batches: Tensor, gamma: Tensor) -> None:
    batch_norm_forward(statistics, (mean, variance), batches, gamma, None, 1e-5, 0.1, N * H * W, torch.float32)


def a_stem_backward_weight(
    grad: Gradient, images: Tensor, weight: Tensor, norm: Norm, constant: Tensor, slope: Tensor
) -> None:
    stem_backward_weight(grad, images, weight, norm, Correction(norm.mean, constant, slope))


def a_stem_backward_images(
    grad: Gradient, images: Tensor, weight: Tensor, norm: Norm, constant: Tensor, slope: Tensor, grad_images: Tensor
) -> None:
    stem_backward_images(grad, images, weight, norm, Correction(norm.mean, constant, slope), grad_images)


def a_weighted_loss(logits: Tensor, labels: Tensor, grad: Tensor, weights: Tensor, grad_sums: Tensor) -> None:
    loss_and_gradient(logits, labels, None, 255, grad, mean=False, pixel_weights=weights, grad_class_sums=grad_sums)


def a_pixel_loss(logits: Tensor, labels: Tensor, losses: Tensor, class_sums: Tensor) -> None:
    write_pixel_losses(logits, labels, None, 255, losses, class_sums)


def an_upsample_argmax(labels: Tensor) -> None:
    write_labels(a_map(C, 4, 4, n=N), labels)


#: The function, what it is called with, and the arguments that may have fewer rows: strips.
CALLS = [
    (affine_correction, (a_gradient(C), a_map(C)), ()),
    (
        a_batch_norm_forward,
        (torch.rand(2, C, dtype=torch.float64), torch.rand(C), torch.rand(C), torch.tensor(0), torch.rand(C)),
        (),
    ),
    (
        a_batch_norm_backward,
        (
            BnSums.of_none(C, torch.device("cpu")),
            torch.rand(C, dtype=torch.float64),
            a_norm(C),
            Correction.zeros(C, torch.float32, torch.device("cpu")),
        ),
        (),
    ),
    (bn_add_relu_forward, (a_map(C), a_norm(C), a_map(C), a_norm(C), a_map(C)), ()),
    (
        bn_add_relu_backward,
        (a_gradient(C), a_map(C), a_map(C), a_norm(C), a_map(C), a_norm(C), a_map(C), a_map(C), True),
        (),
    ),
    (bn_relu_forward, (a_map(C), a_norm(C), a_map(C)), ()),
    (bn_relu_backward, (a_map(C), a_map(C), a_norm(C), a_map(C), True), ()),
    (bn_relu_conv1x1_forward, (a_map(C), a_norm(C), torch.randn(M, C, 1, 1), a_map(M), True), ()),
    (
        bn_relu_conv1x1_backward,
        (a_gradient(M), a_map(C), a_norm(C), torch.randn(M, C, 1, 1), a_map(C), True),
        (),
    ),
    (bn_relu_conv1x1_weight, (a_gradient(M), a_map(C), a_norm(C)), ()),
    (bn_relu_conv3x3_forward, (a_map(C), a_norm(C), torch.randn(M, C, 3, 3), 1, a_map(M)), (4,)),
    (
        bn_relu_conv3x3_backward,
        (a_gradient(M), a_map(C), a_norm(C), torch.randn(M, C, 3, 3), 1, a_map(C)),
        (5,),
    ),
    (bn_relu_avgpool2_forward, (a_map(C), a_norm(C), a_map(C, H // 2, W // 2)), ()),
    (bn_relu_avgpool2_backward, (a_map(C, H // 2, W // 2), a_map(C), a_norm(C), a_map(C), True), ()),
    (bn_relu_maxpool_forward, (a_map(C), a_norm(C), a_map(C, H // 2, W // 2)), (2,)),
    (bn_relu_maxpool_backward, (a_map(C, H // 2, W // 2), a_map(C), a_norm(C), a_map(C)), (0, 3)),
    (bn_relu_patches_forward, (a_map(C), a_norm(C), a_map(9 * C, H // 2, W // 2)), (2,)),
    (bn_relu_patches_backward, (a_map(9 * C, H // 2, W // 2), a_map(C), a_norm(C), a_map(C)), (0,)),
    (
        stem_forward,
        (a_map(3), torch.randn(C, 3, 7, 7), None, a_norm(C), a_map(C, H // 4, W // 4), True),
        (),
    ),
    (stem_forward, (a_map(3), torch.randn(C, 3, 7, 7), torch.rand(C), None, a_map(C, H // 4, W // 4)), ()),
    (
        stem_backward_sums,
        (a_gradient(C, H // 4, W // 4), a_map(3), torch.randn(C, 3, 7, 7), a_norm(C)),
        (),
    ),
    (
        a_stem_backward_weight,
        (a_gradient(C, H // 4, W // 4), a_map(3), torch.randn(C, 3, 7, 7), a_norm(C), torch.rand(C), torch.rand(C)),
        (),
    ),
    (
        a_stem_backward_images,
        (
            a_gradient(C, H // 4, W // 4),
            a_map(3),
            torch.randn(C, 3, 7, 7),
            a_norm(C),
            torch.rand(C),
            torch.rand(C),
            a_map(3),
        ),
        (),
    ),
    (upsample_forward, (a_map(C, H // 4, W // 4), a_map(C), 0, H), (0, 1)),
    (upsample_backward, (a_map(C), a_map(C, H // 4, W // 4)), (0, 1)),
    (
        upsample_project_concat_forward,
        (a_map(C, H // 4, W // 4), a_map(C), a_norm(C), torch.randn(M, C, 1, 1), a_map(C + M)),
        (0,),
    ),
    (
        loss_and_gradient,
        (a_map(C, 4, 4), torch.randint(0, C, (N, H, W)), torch.rand(C), 255, a_map(C, 4, 4)),
        (),
    ),
    (
        a_weighted_loss,
        (a_map(C, 4, 4), torch.randint(0, C, (N, H, W)), a_map(C, 4, 4), torch.rand(N, H, W), torch.rand(N, 3, C)),
        (),
    ),
    (
        a_pixel_loss,
        (a_map(C, 4, 4), torch.randint(0, C, (N, H, W)), torch.rand(N, H, W), torch.rand(N, 3, C).double()),
        (),
    ),
    (an_upsample_argmax, (torch.zeros(N, H, W + 1, dtype=torch.uint8),), ()),
]


def wrong_tensors(x: Tensor, may_be_a_strip: bool) -> Iterator[Tensor]:
    if x.dim() == 0:
        yield x.float()
    if x.dim() == 1:
        yield from (x[:-1], x.repeat(2)[::2], x[:0])
        yield x.double() if x.dtype == torch.float32 else x.float()
    if x.dim() == 2:
        yield x[:, :-1]
    if x.dim() == 3:
        yield from (x[1:], x.mT)
    if x.dim() == 4:
        yield from (x[1:], x[:, 1:], torch.empty_like(x, device="meta"))
        if not may_be_a_strip:
            yield x[:, :, 4:] if x.shape[2] > 4 else x[:, :, :0]
        if x.shape[2:] not in ((1, 1), (3, 3), (7, 7)):  # weights are cast
            yield x.double()
        lost = x.clone()
        lost.untyped_storage().resize_(0)
        yield lost


def wrong(argument: Any, may_be_a_strip: bool) -> Iterator[Any]:
    if isinstance(argument, Tensor):
        yield from wrong_tensors(argument, may_be_a_strip)
    elif is_dataclass(argument):
        for field in fields(argument):
            for value in wrong(getattr(argument, field.name), may_be_a_strip):
                changed = copy.copy(argument)
                setattr(changed, field.name, value)
                yield changed


def main(report: bool = False) -> None:
    tried = 0
    for function, arguments, strips in CALLS:
        function(*arguments)
        for i, argument in enumerate(arguments):
            for j, value in enumerate(wrong(argument, i in strips)):
                tried += 1
                if report:
                    print(f"{function.__name__}, argument {i}, variant {j}", flush=True)
                try:
                    function(*arguments[:i], value, *arguments[i + 1 :])
                except (RuntimeError, TypeError, ValueError):
                    continue
                raise SystemExit(f"nothing was raised by {function.__name__}, argument {i}, variant {j}")
    print(tried)


if __name__ == "__main__":
    main(report="--report" in sys.argv)
