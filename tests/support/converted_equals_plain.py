"""Training steps of other people's models, converted and not."""

from collections.abc import Sequence
from typing import Any

import torch
from support.lean_equals_plain import assert_lean_equals_plain, randomise, set_mode
from torch import Tensor, nn

from ladderseg_fast import convert


def make_images(*shape: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def unconverted(model: nn.Module, *inputs: Tensor) -> Tensor | Sequence[Tensor]:
    """What `model` computes without conversion; encoders of features also return their input, which is left out."""
    outputs = model(*inputs)
    return outputs[1:] if isinstance(outputs, list) else outputs


def converted(model: nn.Module, *inputs: Tensor) -> Tensor | Sequence[Tensor]:
    """The same after conversion."""
    convert(model)
    return unconverted(model, *inputs)


def assert_converted_equals_plain(
    model: nn.Module, mode: str, *shapes: Sequence[int], dtype: torch.dtype = torch.float64, **options: Any
) -> None:
    """Two training steps for each shape of images: outputs, gradients, running statistics and counters agree."""
    model = randomise(model).to(dtype)
    set_mode(model, mode)
    steps = [[make_images(*shape, dtype=dtype, seed=i).requires_grad_(i % 2 == 0)] for i, shape in enumerate(shapes)]
    assert_lean_equals_plain(model, converted, unconverted, steps, learning_rate=1e-3, **options)
