"""The gradient of the images (for saliency or adversarial examples), computed by torch in strips."""

from torch import Tensor

from ...ops import torch_stem
from ...ops.affine_correction import write
from ...ops.arguments import Correction, Gradient, Norm
from ..passes import BackwardPass


def add_image_gradient(
    step: BackwardPass,
    grad: Gradient,
    images: Tensor,
    weight: Tensor,
    norm: Norm,
    correction: Correction,
    grad_images: Tensor,
) -> None:
    """Adds the gradient of images [N, C, H, W] to grad_images; grad [N, K, h, w] is the pooled map's gradient."""
    pooled_gradient = write(grad, step.workspace.take(images, *grad.grad.shape))
    weight = weight.to(images.dtype)
    for piece in torch_stem.pieces(images, weight, step.plan.chunk_bytes):
        grad_values = piece.empty_gradient()
        rows = piece.rows_of(grad_values)
        piece.backward_pooling(pooled_gradient, norm, rows)
        write(Gradient(rows, piece.values[:, :, piece.strip.inner], correction), rows)
        (more,) = torch_stem.stem_convolution_backward(grad_values, piece.source, weight, (True, False))
        grad_images[piece.strip.images, :, piece.rows] += more
