"""Training steps of other people's models, converted and not."""

from collections.abc import Callable, Sequence

import torch
from support.lean_equals_plain import assert_lean_equals_plain, randomise, set_mode
from torch import Tensor, nn

import ladderseg_fast


def make_images(*shape: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def assert_converted_equals_plain(
    model: nn.Module,
    mode: str,
    *shapes: Sequence[int],
    dtype: torch.dtype = torch.float64,
    convert: Callable[[nn.Module], object] = ladderseg_fast.convert,
) -> None:
    """A training step for each shape of images: outputs, gradients, running statistics and counters agree."""
    ladderseg_fast.convert.undo(model)
    model = randomise(model).to(dtype)
    set_mode(model, mode)
    steps = [[make_images(*shape, dtype=dtype, seed=i).requires_grad_(i % 2 == 0)] for i, shape in enumerate(shapes)]

    def plain(model: nn.Module, images: Tensor) -> Tensor | Sequence[Tensor]:
        outputs = model(images)
        return outputs[1:] if isinstance(outputs, list) else outputs  # encoders return the images too

    def converted(model: nn.Module, images: Tensor) -> Tensor | Sequence[Tensor]:
        convert(model)
        return plain(model, images)

    assert_lean_equals_plain(model, converted, plain, steps, learning_rate=1e-3)
