"""What the operators' autograd formulas share."""

from typing import Any

from torch import Tensor


def batch_norm_gradients(
    masked: Tensor, centred: Tensor, invstd: Tensor, gamma: Tensor | None, beta: Tensor | None
) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
    """Gradients of mean, invstd, gamma and beta from the sums [C] of kernels.BnSums.

    With y = (x - mean) * invstd * gamma + beta and m the gradient of y where it passes the relu:
    d mean = -gamma * invstd * sum(m), d invstd = gamma * sum(m * (x - mean)),
    d gamma = invstd * sum(m * (x - mean)), d beta = sum(m).
    """
    scale = invstd if gamma is None else invstd * gamma
    grad_mean = -scale * masked
    grad_invstd = centred if gamma is None else gamma * centred
    grad_gamma = None if gamma is None else invstd * centred
    grad_beta = None if beta is None else masked
    return grad_mean, grad_invstd, grad_gamma, grad_beta


def no_double_backward(operator: Any) -> None:
    """Make `operator`, a backward, raise when it is differentiated."""
    name = operator._qualname.split("::")[1]

    def backward(ctx: Any, *grads: Tensor) -> None:
        raise RuntimeError(
            f"{name} has no second derivative: its operator can be differentiated once; "
            'for double backward use memory="plain" or ladderseg_fast.ops.reference'
        )

    operator.register_autograd(backward)
