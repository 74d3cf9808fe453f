"""Check that a checkpoint's file holds the types and ranges that the rest of the package relies on."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ..data import RGB

_Kind = type | tuple[type, ...]

_NUMBER = (int, float)

_SINGLE: dict[str, _Kind] = {"step": int, "model": str, "memory": str, "config": dict, "state": dict}

_LISTED: dict[str, _Kind] = {"class_names": str, "palette": list, "size": int, "mean": _NUMBER, "std": _NUMBER}

#: Entries of the state that a training continues from.
_TRAINING: dict[str, _Kind] = {
    "learner": dict,
    "batches": int,
    "losses": list,
    "images": int,
    "threads": int,
    "random": dict,
}


def check_content(content: Mapping[str, Any]) -> None:
    """Raises KeyError, TypeError or ValueError for an entry that is missing, of another type, or out of range."""
    for key, kind in _SINGLE.items():
        _check(key, content[key], kind)
    for key, kind in _LISTED.items():
        _check_items(key, content[key], kind)
    for colour in content["palette"]:
        _check_items("palette", colour, int)
    for name, tensor in content["state"].items():
        _check("a name in state", name, str)
        _check(f"state/{name}", tensor, Tensor)
    if content["step"] < 0 or len(content["size"]) != 2 or min(content["size"]) < 1:
        raise ValueError(f"step {content['step']}, size {content['size']}")
    # A file of an early release has none. Normalisation checks their ranges.
    _check("bits", content.get("bits", RGB.bits), int)
    if content["training_state"] is not None:
        _check("training_state", content["training_state"], dict)
        for key, kind in _TRAINING.items():
            _check(f"training_state/{key}", content["training_state"][key], kind)
        _check_items("training_state/losses", content["training_state"]["losses"], _NUMBER)
        _check_items("config", list(content["config"].values()), dict)


def _check_items(key: str, values: Any, kind: _Kind) -> None:
    _check(key, values, list)
    for i, value in enumerate(values):
        _check(f"{key}/{i}", value, kind)


def _check(key: str, value: Any, kind: _Kind) -> None:
    if not isinstance(value, kind) or isinstance(value, bool):
        raise TypeError(f"{key} is of type {type(value).__name__}")
