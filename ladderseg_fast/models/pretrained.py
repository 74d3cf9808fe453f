"""Whole models as safetensors files, with the configuration in the metadata."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from ..atomic_file import atomic_write
from ..tensor_digest import tensor_digest

#: Name of the entry in the metadata.
_KEY = "ladderseg_fast"

#: Types of the values in the entry, by key.
_TYPES = {"class": str, "options": dict, "pretrained": bool}

Model = TypeVar("Model")


@dataclass(frozen=True)
class SavedModel:
    """Content of a saved model's file."""

    class_name: str
    options: dict[str, Any]
    """Arguments for the class."""
    pretrained: bool
    """Whether the encoder started from pretrained weights."""
    state: dict[str, Tensor]


def write_pretrained(path: str | os.PathLike[str], model: SavedModel) -> None:
    """Writes `model` to the file `path`; a crash or a full disk leaves an earlier file there intact.

    Raises:
        OSError: the file cannot be written; the message names `path`.
    """
    tensors = {key: tensor.detach().cpu().contiguous() for key, tensor in model.state.items()}
    content = {"class": model.class_name, "options": model.options, "pretrained": model.pretrained}
    content["digest"] = _digest(content, tensors)
    data = save(tensors, metadata={_KEY: json.dumps(content), "format": "pt"})
    with atomic_write(Path(path)) as file:
        file.write(data)


def holds_model(path: str | os.PathLike[str]) -> bool:
    """Whether write_pretrained wrote the safetensors file `path`; False if the file cannot be read."""
    try:
        with safe_open(path, framework="pt") as file:
            return _KEY in (file.metadata() or {})
    except Exception:  # the code that reads the file reports what is wrong with it
        return False


def read_pretrained(path: str | os.PathLike[str]) -> SavedModel:
    """Reads a file that write_pretrained wrote.

    Raises:
        OSError: the file cannot be read.
        ValueError: the file is damaged, or not a model of this package.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            state = {key: file.get_tensor(key) for key in file.keys()}
    except OSError:
        raise
    except Exception as error:  # SafetensorError, and others for a dtype that torch lacks
        raise ValueError(f"{path}: not a safetensors file, or a damaged one ({error})") from error
    if _KEY not in metadata:
        raise ValueError(
            f"{path}: not a model that save_pretrained wrote; pretrained weights of an encoder go to `weights`"
        )
    try:
        content = json.loads(metadata[_KEY])
        _check_content(content)
    except (KeyError, RecursionError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: incomplete metadata ({error!r})") from error
    # Files of release 0.1 have no digest: a safetensors file has no checksums of its own.
    if "digest" in content and content["digest"] != _digest(content, state):
        raise ValueError(f"{path}: damaged or edited: this is not what save_pretrained wrote")
    # A saved model has its weights: the file that they started from no longer matters, and may not exist here.
    options = {name: value for name, value in content["options"].items() if name != "weights"}
    return SavedModel(content["class"], options, content["pretrained"], state)


def _digest(content: Mapping[str, Any], state: Mapping[str, Tensor]) -> str:
    """Digest of everything in the file except the digest itself."""
    described = {key: value for key, value in content.items() if key != "digest"}
    return tensor_digest(state, json.dumps(described, sort_keys=True))


def _check_content(content: Any) -> None:
    """Raises KeyError, TypeError or ValueError for metadata that write_pretrained does not write."""
    for key, kind in _TYPES.items():
        if not isinstance(content[key], kind):
            raise TypeError(f"{key} is of type {type(content[key]).__name__}")
    # An entry with a damaged name must not pass for an absent entry.
    unknown = content.keys() - _TYPES.keys() - {"digest"}
    if unknown:
        raise ValueError(f"unknown entries {', '.join(sorted(unknown))}")


def check_class(
    path: str | os.PathLike[str], name: str, wanted: type[Model], known: Mapping[str, type[Model]]
) -> type[Model]:
    """The class called `name`; ValueError unless it is `wanted` or one of its subclasses."""
    if name not in known:
        raise ValueError(f"{path}: a model of class {name!r}, which this release does not have")
    if not issubclass(known[name], wanted):
        raise ValueError(f"{path}: a {name}, not a {wanted.__name__}")
    return known[name]
