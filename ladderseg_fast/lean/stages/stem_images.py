"""The gradient of the images, for those who ask for it (saliency, adversarial examples): in strips, through torch."""

from torch import Tensor

from ...ops import composed_stem
from ...ops.batch_norm_kernels import Correction
from ...ops.kernels import CorrectedGradient, Norm
from ..feature import write
from ..passes import BackwardPass


def add_image_gradient(
    step: BackwardPass,
    grad: CorrectedGradient,
    images: Tensor,
    weight: Tensor,
    norm: Norm,
    correction: Correction,
    grad_images: Tensor,
) -> None:
    """Add the gradient of images [N, C, H, W] to grad_images; grad [N, K, h, w] is that of the pooled map."""
    pooled_gradient = write(grad, step.workspace.take(images, *grad.grad.shape))
    weight = weight.to(images.dtype)
    for piece in composed_stem.pieces(images, weight, step.plan.chunk_bytes):
        grad_values = piece.empty_gradient()
        rows = piece.rows_of(grad_values)
        piece.backward_pooling(pooled_gradient, norm, rows)
        write(correction.of(piece.values[:, :, piece.strip.inner], rows), rows)
        more, _ = piece.backward_convolution(grad_values, weight, (True, False))
        grad_images[piece.strip.images, :, piece.rows] += more
