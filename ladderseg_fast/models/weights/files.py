"""Checkpoint files of any origin, read as names and tensors."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

from ...torch_archive import load_torch_file

#: Names under which training programs put the state_dict into their checkpoints.
_WRAPPERS = ("state_dict", "model")


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Reads, on the CPU, the tensors of a .safetensors file or (any other suffix) of a file that torch.save wrote.

    No code in the file runs (torch.load with weights_only). Damage is found if the format has checksums, as today's
    .pth does; in .safetensors, and in .pth from before PyTorch 1.6, only truncation is found.

    Raises:
        OSError: the file does not exist or cannot be read.
        ValueError: the file is damaged, truncated or not a state_dict; the message names it.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file of weights")
    content = _read_safetensors(path) if path.suffix == ".safetensors" else load_torch_file(path)
    return state_dict_in(content, path)


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path, device="cpu")
    except OSError:
        raise
    except Exception as error:  # SafetensorError, and others for a dtype that torch lacks
        raise ValueError(f"{path}: not a safetensors file, or a damaged one ({error})") from error


def state_dict_in(content: Any, path: Path) -> dict[str, Tensor]:
    """The state_dict in the content of a file, without the wrapping of training programs.

    Raises:
        ValueError: there is no state_dict; the message names `path`.
    """
    if isinstance(content, Mapping):
        for name in _WRAPPERS:
            if isinstance(content.get(name), Mapping):
                content = content[name]
                break
    if not isinstance(content, Mapping):
        raise ValueError(f"{path}: holds no state_dict but an object of type {type(content).__name__}")
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise ValueError(f"{path}: not a state_dict, {name!r} is of type {type(value).__name__}")
    return dict(content)
