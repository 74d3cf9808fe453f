"""Training steps of a small ladder, in each of WAYS: for the CUDA path, emulated and on a device."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from support.ladder_models import make_images, make_labels, make_model
from support.lean_equals_plain import away_from_kinks
from torch import Tensor

from ladderseg_fast import LadderLoss, SegmentationModel

#: Four positions at 1/64 in all.
SIZE = (4, 64, 96)

#: The second finds what the first has left: running statistics, momentum, and where its maps shall lie.
STEPS = 2

#: As torch.amp.GradScaler does it; a power of two, which rounds nothing.
LOSS_SCALE = 1024.0


@dataclass(frozen=True)
class Way:
    """What steps are computed in: the dtype of the parameters, and that of torch.autocast.

    With `smooth`, hardly any activation is near the kink of its ReLU, where rounding decides (away_from_kinks).
    """

    dtype: torch.dtype
    autocast: torch.dtype | None = None
    smooth: bool = True


WAYS = {
    "float64": Way(torch.float64, smooth=False),
    "float32": Way(torch.float32),
    "exact": Way(torch.float64),
    "autocast_float16": Way(torch.float32, torch.float16),
    "autocast_bfloat16": Way(torch.float32, torch.bfloat16),
}


def training_steps(
    memory: str, way: Way, device: str = "cpu", make: Callable[..., SegmentationModel] = make_model
) -> dict[str, Tensor]:
    """Losses, outputs, gradients and, at the end, parameters and running statistics of steps of SGD, by name."""
    model = make(memory=memory, dtype=way.dtype).to(device)
    if way.smooth:
        away_from_kinks(model)
    optimiser = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
    scale = 1.0 if way.autocast is None else LOSS_SCALE
    done = {}
    for step in range(STEPS):
        images = make_images(*SIZE, dtype=way.dtype, seed=step).to(device)
        labels = make_labels(*SIZE, seed=step).to(device)
        optimiser.zero_grad()
        with torch.autocast(device, dtype=way.autocast, enabled=way.autocast is not None):
            output = model(images)
            loss = LadderLoss(memory=memory)(output, labels)
        (scale * loss).backward()
        done |= {f"step {step}: loss": loss, f"step {step}: logits": output.logits, f"step {step}: aux": output.aux}
        for name, parameter in model.named_parameters():
            parameter.grad /= scale
            done[f"step {step}: gradient of {name}"] = parameter.grad
        optimiser.step()
    done |= {f"{name} at the end": tensor for name, tensor in model.state_dict().items()}
    return {name: tensor.detach() for name, tensor in done.items()}
