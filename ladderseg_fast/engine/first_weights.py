"""Weights that a training starts from: those of another run, a saved model, or an encoder, if they fit."""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from ..models import SegmentationModel
from ..models.pretrained import holds_model, read_pretrained
from ..models.state import describe, state_problems
from ..models.weights import adapt_first_convolution, adaptation, read_state_dict, state_dict_in, without_wrappers
from ..torch_archive import load_torch_file
from .checkpoint import checkpoint_in, load_checkpoint

#: The encoder, in every model.
_ENCODER = "features"


def read_first_weights(path: Path) -> Mapping[str, Tensor]:
    """Tensors of a run's directory, of a checkpoint, or of a file of weights of a whole model or of an encoder.

    Raises:
        OSError: there is no such file, or it cannot be read.
        ValueError: it is damaged, or holds no weights; the message names it.
    """
    if path.is_dir():
        return load_checkpoint(path).state
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such checkpoint, run or file of weights")
    if path.suffix == ".safetensors":
        return read_pretrained(path).state if holds_model(path) else without_wrappers(read_state_dict(path))
    content = load_torch_file(path)
    checkpoint = checkpoint_in(content, path)
    return without_wrappers(state_dict_in(content, path)) if checkpoint is None else checkpoint.state


def is_whole_model(state: Mapping[str, Tensor]) -> bool:
    """Whether `state` belongs to a model of this package, and not to an encoder or classifier."""
    return {_ENCODER, "context", "head"} <= _parts(state)


def take_what_fits(model: SegmentationModel, state: Mapping[str, Tensor], source: str) -> str:
    """Copies into `model` each part (encoder, context layer, transitions-up, heads) that fits as a whole.

    The encoder's weights for images of three channels are adapted to those of `model`; see adapt_first_convolution.

    Returns:
        What was taken, and what starts anew and why, in one line.

    Raises:
        ValueError: the encoder does not fit; the message names `source`. `model` is then unchanged.
    """
    target, adapted = model.state_dict(), None
    first = f"{_ENCODER}.{model.design.encoder.layout.first_convolution}"
    if first in state:
        adapted = adaptation(state[first], model.in_channels)
        state = {**state, first: adapt_first_convolution(state[first], model.in_channels)}
    parts = list(dict.fromkeys(map(_part, target)))
    problems = {part: state_problems(_of(part, state), _of(part, target)) for part in parts}
    if problems[_ENCODER]:
        raise ValueError(f"{source}: its encoder is not this model's: {describe(problems[_ENCODER])}")
    taken = [part for part in parts if not problems[part]]
    model.load_state_dict({name: tensor for part in taken for name, tensor in _of(part, state).items()}, strict=False)
    text = f"{source}: took {', '.join(taken)}"
    anew = [f"{part} ({_reason(problems[part], part in _parts(state))})" for part in parts if problems[part]]
    if anew:
        text += f"; new: {', '.join(anew)}"
    unused = sorted(_parts(state) - set(parts))
    if unused:
        text += f"; not used: {', '.join(unused)}"
    return text if adapted is None else f"{text}; {adapted}"


def _reason(problems: Mapping[str, list[str]], there: bool) -> str:
    """Reason why a part does not fit: the first shape that differs says more than a list of names."""
    if not there:
        return "not there"
    shapes = problems.get("of another shape")
    return shapes[-1] if shapes else describe(problems)


def _part(name: str) -> str:
    return name.partition(".")[0]


def _parts(state: Mapping[str, Tensor]) -> set[str]:
    return set(map(_part, state))


def _of(part: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in state.items() if _part(name) == part}
