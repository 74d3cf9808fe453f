"""Backward of a 1x1 convolution and the batch norm after it, without the convolution's result.

The result is linear in the convolution's input, so whatever batch norm's backward needs of it follows from two products
of matrices that have no pixels: see ALGORITHMS.md section 8.
"""

import torch
from torch import Tensor, nn

from ...ops.arguments import BnSums, Correction, Gradient, Norm
from ...ops.backend import real_dtype
from ...ops.bn_relu import bn_relu_forward
from ...ops.bn_relu_conv1x1 import bn_relu_conv1x1_backward, bn_relu_conv1x1_weight
from ...ops.channel_statistics import mean_and_variance
from ...ops.strips import strips
from ..passes import BackwardPass

#: Rows of a weight that are multiplied in double precision at a time: copies of all of it would spread out the heap.
_ROWS = 256


class UnmadeResult:
    """The result [N, M, H, W] of `conv` on y = bn_relu(x [N, C, H, W]), which batch norm `after` reads.

    Args:
        norm: the batch norm before `conv`.
        identity: batch norm of at least M and at least C channels which changes nothing.
    """

    def __init__(
        self, step: BackwardPass, conv: nn.Conv2d, after: nn.BatchNorm2d, x: Tensor, norm: Norm, identity: Norm
    ) -> None:
        self._step, self._x, self._norm, self._identity = step, x, norm, identity
        self._conv, self._after = conv, after
        self._grad: Gradient | None = None
        self._through_norm: tuple[Tensor, Tensor] | None = None

    def finish_norm(self, grad: Tensor, masked: Tensor) -> None:
        """Makes the gradients of the weight and of `after`, from grad [N, M, H, W] of what `after` gives.

        masked: sum of grad, [M] float64.
        """
        step, after = self._step, self._after
        weight = step.weight(self._conv).flatten(1)
        outputs = len(weight)
        bound = step.norms[after].with_scale(self._identity.scale[:outputs])
        scale = step.norms[after].norm.scale.view(-1, 1)
        self._grad = Gradient(grad)
        moments: tuple[Tensor, Tensor] | None = None
        if bound.batch_statistics:
            self._grad = self._less(grad, (masked / bound.positions).to(weight.dtype))
            moments = self._moments()
        centre = None if moments is None else moments[0]
        grad_weight = bn_relu_conv1x1_weight(self._grad, self._x, self._norm, centre).flatten(1)
        rows = zip(weight.split(_ROWS), grad_weight.split(_ROWS))
        centred = torch.cat([(some.double() * grad).sum(1) for some, grad in rows])
        if not bound.batch_statistics:
            centred -= bound.norm.mean * masked
        correction = step.finish_norm(after, BnSums(masked, centred), bound)
        if correction is not None and moments is not None:
            mean, scatter = moments
            slope = correction.slope.view(-1, 1)
            grad_weight -= slope * (weight @ scatter)
            self._through_norm = mean, weight.t() @ (-slope * scale * weight)
        step.add_gradient(self._conv, grad_weight.mul_(scale).view(outputs, -1, 1, 1))

    def backward(self, grad_x: Tensor, accumulate: bool) -> BnSums:
        """Computes grad_x (+)= norm.scale * m; returns the sums of m. Runs after finish_norm."""
        step, x, norm = self._step, self._x, self._norm
        assert self._grad is not None
        scale = step.norms[self._after].norm.scale.view(-1, 1, 1, 1)
        weight = scale * step.weight(self._conv)
        _, sums = bn_relu_conv1x1_backward(self._grad, x, norm, weight, grad_x, accumulate, want_weight=False)
        if self._through_norm is not None:
            mean, weight = self._through_norm
            for images, rows in self._parts():
                y = self._rectified(images, rows)
                _, found = bn_relu_conv1x1_backward(
                    self._less(y, mean),
                    x[images, :, rows],
                    norm,
                    weight[:, :, None, None],
                    grad_x[images, :, rows],
                    accumulate=True,
                    want_weight=False,
                )
                sums.plus(found)
        return sums

    def _moments(self) -> tuple[Tensor, Tensor]:
        """The mean of y [C], and the sum over all pixels of (y - mean) (y - mean)^T [C, C]."""
        c = self._x.shape[1]
        done, mean = 0, torch.zeros(c, dtype=torch.float64, device=self._x.device)
        total = torch.zeros((c, c), dtype=real_dtype(self._x.dtype), device=self._x.device)
        for images, rows in self._parts():
            y = self._rectified(images, rows)
            found, count = mean_and_variance(y)[0], y.numel() // c
            centre = found.to(total.dtype)
            scatter = bn_relu_conv1x1_weight(self._less(y, centre), self._x[images, :, rows], self._norm, centre)
            total += scatter.flatten(1)
            del y, scatter
            if done:  # from the mean of both, by Chan's formula
                away = (found - mean).to(total.dtype)
                total.addr_(away, away, alpha=done * count / (done + count))
            mean.lerp_(found, count / (done + count))
            done += count
        return mean.to(total.dtype), total

    def _parts(self) -> list[tuple[slice, slice]]:
        """Images and rows of x of which y is made at a time."""
        n, c, h, w = self._x.shape
        pixels = max(1, self._step.plan.chunk_bytes // (c * self._x.element_size()))
        return [(strip.images, strip.rows) for strip in strips(n, h, w, pixels, halo=0)]

    def _rectified(self, images: slice, rows: slice) -> Tensor:
        x = self._x[images, :, rows]
        y = self._step.workspace.take(x, *x.shape)
        bn_relu_forward(x, self._norm, y)
        return y

    def _less(self, grad: Tensor, constant: Tensor) -> Gradient:
        """The gradient grad - constant."""
        zeros = self._identity.mean[: len(constant)]
        return Gradient(grad, grad, Correction(zeros, constant, zeros))
