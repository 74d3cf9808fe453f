"""Digest of tensors, by which a reader of a file knows that it has what the writer had."""

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor


def tensors_in(value: Any, path: str = "") -> Iterator[tuple[str, Tensor]]:
    """Tensors in nested mappings, lists and tuples, with their places: "state/conv0.weight"."""
    if isinstance(value, Tensor):
        yield path, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from tensors_in(item, f"{path}/{key}" if path else str(key))
    elif isinstance(value, list | tuple):
        for i, item in enumerate(value):
            yield from tensors_in(item, f"{path}/{i}" if path else str(i))


def tensor_digest(value: Any, text: str = "") -> str:
    """SHA-256 of `text` and of name, dtype, shape and elements of the tensors_in `value`, in the order of their names.

    Strides and devices do not enter. The tensors must be strided, and not on the meta device.
    """
    digest = hashlib.sha256(text.encode())
    for name, tensor in sorted(tensors_in(value), key=lambda item: item[0]):
        digest.update(f"\n{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(_elements(tensor))
    return digest.hexdigest()


def _elements(tensor: Tensor) -> memoryview:
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data
