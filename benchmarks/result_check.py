"""Check that a method computes what the reference method computes, before its memory and time are quoted.

Predictions are compared label by label. For training steps, loss and gradients are compared twice, from one seed:

- in the measured step. Its gradient tolerance catches gross errors only: float32 rounding flips a few ReLUs at the
  coarsest levels, where BatchNorm sees few pixels. By that alone, plain PyTorch in another memory layout differs
  from itself by 0.02 at 256x512 and by 0.2 at 64x128 (NOTES.md); in bfloat16 by 0.67 at 256x512. A gradient that
  has nothing to do with the right one is off by 1 or more;
- in a float64 step on at most 128x256 pixels of the same images, where rounding does not matter: both must agree
  closely.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

EXACT_SIZE = (128, 256)


#: Largest accepted |loss - reference| / |reference|, ||gradient - reference|| / ||reference||, and share of pixels
#: whose predicted label is another (random weights leave many classes nearly equal).
TOLERANCES: dict[str, dict[str, float]] = {
    "float32": {"loss": 1e-4, "gradient": 0.5},
    "float16": {"loss": 1e-3, "gradient": 0.9},
    "bfloat16": {"loss": 5e-3, "gradient": 0.9},
    "float64": {"loss": 1e-10, "gradient": 1e-8},
    "prediction": {"labels": 1e-3},
    "16-bit prediction": {"labels": 5e-2},
}

#: Loss and gradient of one step, per type of TOLERANCES.
Results = dict[str, dict[str, Tensor]]
Errors = Mapping[str, Mapping[str, float]]


def step_result(model: nn.Module, loss: Tensor) -> dict[str, Tensor]:
    """Loss and all parameters' gradients as one vector, on the CPU in float64, after backward has run.

    Raises:
        RuntimeError: a parameter has no gradient.
    """
    pieces = []
    for name, parameter in model.named_parameters():
        if parameter.grad is None:
            raise RuntimeError(f"the step left no gradient for {name}")
        pieces.append(parameter.grad.cpu().double().flatten())
    return {"loss": loss.detach().cpu().double(), "gradient": torch.cat(pieces)}


def exact_result(model: nn.Module, loss: nn.Module, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Runs step_result of a float64 step on a crop of EXACT_SIZE; turns the model into float64."""
    height, width = EXACT_SIZE
    model.double().zero_grad(set_to_none=True)
    value = loss(model(images[..., :height, :width].double()), labels[..., :height, :width].contiguous())
    value.backward()
    return step_result(model, value)


def relative_errors(results: Results, reference: Results) -> dict[str, dict[str, float]]:
    """||value - reference|| / ||reference|| (Euclidean) of loss and gradient, per type."""
    return {
        dtype: {
            name: ((value - reference[dtype][name]).norm() / reference[dtype][name].norm()).item()
            for name, value in result.items()
        }
        for dtype, result in results.items()
    }


def rejection(errors: Errors) -> str | None:
    """Reason why a method with these errors is not accepted; None if it is."""
    for kind, values in errors.items():
        for name, error in values.items():
            largest = TOLERANCES[kind][name]
            # Written so that NaN is rejected.
            if not error <= largest:
                return f"wrong result: {kind} {name} differs by {error:.2g} (relative), accepted is {largest:.0e}"
    return None
