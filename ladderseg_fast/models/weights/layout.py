"""Conversion of names in checkpoints of torchvision and timm to names of the encoders."""

from collections.abc import Mapping

from torch import Tensor

from ..encoder import Encoder, Layout

#: Prefixes that DataParallel and torch.compile put before every name.
_WRAPPER_PREFIXES = ("module.", "_orig_mod.")


def layout_of(architecture: str) -> Layout:
    """The layout of an encoder's `architecture`, as torchvision and timm name it; ValueError for any other name."""
    for family in Encoder.families:
        if architecture in family.architectures():
            return family.layout
    known = [name for family in Encoder.families for name in family.architectures()]
    raise ValueError(f"architecture must be one of {', '.join(known)}, got {architecture!r}")


def encoder_names(state: Mapping[str, Tensor], layout: Layout) -> dict[str, Tensor]:
    """Returns `state` under the encoder's names, without classifier and final norm.

    Raises:
        ValueError: two tensors get one name.
    """
    named: dict[str, Tensor] = {}
    for key, tensor in without_wrappers(state).items():
        name = layout.modern(key.removeprefix(layout.prefix))
        if name.startswith(layout.left_out):
            continue
        if name in named:
            raise ValueError(f"{name} is there twice, in an old and in a new style of names")
        named[name] = tensor
    return named


def without_wrappers(state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Removes the prefixes if all names share them; they may be nested in either order."""
    for prefix in _WRAPPER_PREFIXES:
        if state and all(name.startswith(prefix) for name in state):
            return without_wrappers({name.removeprefix(prefix): tensor for name, tensor in state.items()})
    return state
