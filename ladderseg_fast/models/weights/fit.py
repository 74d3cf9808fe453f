"""Comparison of a checkpoint with an encoder: every name and shape must agree."""

from collections.abc import Mapping

import torch
from torch import Tensor

from ..state import describe, same_kind, state_problems
from .recognise import recognise

#: BatchNorm's count, which checkpoints from before PyTorch 0.4.1 lack and inference does not read.
_COUNT = "num_batches_tracked"


def fit(state: Mapping[str, Tensor], target: Mapping[str, Tensor], architecture: str, first: str) -> dict[str, Tensor]:
    """Fits `state` to the names and shapes of `target`, an encoder's state_dict; `first` is the weight reading images.

    Raises:
        ValueError: a tensor is missing, left over, of another shape or kind, not finite or too large for the dtype of
            `target`; the message lists the names, and gives the checkpoint's architecture if it is another one.
    """
    absent = {name: kept for name, kept in target.items() if name not in state and name.endswith(f".{_COUNT}")}
    state = {**state, **absent}
    if first in state and first in target and same_kind(state[first], target[first]):
        state[first] = adapt_first_convolution(state[first], target[first].shape[1])
    problems = state_problems(state, target)
    common = [name for name in target if name in state and same_kind(state[name], target[name])]
    infinite = [name for name in common if not torch.isfinite(state[name]).all()]
    if infinite:
        problems["not finite"] = infinite
    if problems:
        found = recognise(state)
        of = f" but of {found}" if found not in (None, architecture) else ""
        raise ValueError(f"not weights of {architecture}{of}: {describe(problems)}{_not_adapted(state, target, first)}")
    return {name: state[name] for name in target}


def adaptation(weight: Tensor, in_channels: int) -> str | None:
    """Describes in words what adapt_first_convolution does to `weight`; None if nothing."""
    if weight.dim() != 4 or weight.shape[1] != 3 or in_channels == 3:
        return None
    if in_channels == 1:
        return "the first convolution's weights of R, G and B are added up for one band"
    return (
        f"the first convolution's weights are those of R, G, B, R, ... for {in_channels} bands, times 3/{in_channels}"
    )


def _not_adapted(state: Mapping[str, Tensor], target: Mapping[str, Tensor], first: str) -> str:
    """Reason why weights for other images than RGB do not fit images of another number of channels, if they are so."""
    if first not in state or first not in target or state[first].dim() != 4:
        return ""
    found, wanted = state[first].shape[1], target[first].shape[1]
    if found in (3, wanted):
        return ""
    return f"; only weights for RGB are adapted: of {found} channels nobody knows which of {wanted} each is"


def adapt_first_convolution(weight: Tensor, in_channels: int) -> Tensor:
    """Weights for images of `in_channels`, from `weight` [C, 3, k, k] for RGB images; other weights are unchanged.

    The rule is timm's for `in_chans`: for one channel the sum over RGB, so that a grey image gives the same output as
    in RGB; for n channels the weights of R, G, B, R, G, ... times 3 / n, so that the output keeps its scale. The result
    is computed in float32 at least.
    """
    if adaptation(weight, in_channels) is None:
        return weight
    wide = weight.to(torch.promote_types(weight.dtype, torch.float32))
    if in_channels == 1:
        return wide.sum(dim=1, keepdim=True)
    return wide[:, torch.arange(in_channels) % 3] * (3 / in_channels)
