"""Checks of the operators' arguments; each error names the argument and what was expected."""

from collections.abc import Callable
from numbers import Real

import torch
from torch import Tensor

from .backend import backend_of, real_dtype


def check_map(name: str, x: Tensor) -> None:
    """Checks that `x` is a floating [N, C, H, W] of a dtype that its device's kernels have."""
    check_tensors(**{name: x})
    if x.dim() != 4:
        raise ValueError(f"{name} must be [N, C, H, W], got shape {tuple(x.shape)}")
    _check_dense(name, x)
    supported = backend_of(x.device).dtypes
    if x.dtype not in supported:
        names = " or ".join(str(dtype).removeprefix("torch.") for dtype in supported)
        raise TypeError(f"{name} must be {names} on {x.device.type}, got {x.dtype}")
    if x.shape[1] == 0:
        raise ValueError(f"{name} must have at least one channel, got shape {tuple(x.shape)}")


def check_like(name: str, tensor: Tensor, reference_name: str, reference: Tensor) -> None:
    """Checks that `tensor` has the dtype and the device of `reference`."""
    _check_dense(name, tensor)
    _check_dtype(name, tensor, reference.dtype, reference_name)
    if tensor.device != reference.device:
        raise ValueError(f"{name} must be on {reference.device} like {reference_name}, got {tensor.device}")


def _check_dense(name: str, tensor: Tensor) -> None:
    if tensor.layout is not torch.strided:
        raise TypeError(f"{name} must be dense, got layout {tensor.layout}")


def _check_dtype(name: str, tensor: Tensor, expected: torch.dtype, reference_name: str) -> None:
    if tensor.dtype != expected:
        raise TypeError(f"{name} must be {expected} for {reference_name}, got {tensor.dtype}")


def check_vector(name: str, vector: Tensor | None, channels: int, reference_name: str, reference: Tensor) -> None:
    """Checks that `vector` is None or [channels], with the real_dtype and the device of `reference`."""
    if vector is None:
        return
    _check_dense(name, vector)
    if vector.shape != (channels,):
        raise ValueError(
            f"{name} must be [{channels}], one value per channel of {reference_name}, got shape {tuple(vector.shape)}"
        )
    _check_dtype(name, vector, real_dtype(reference.dtype), reference_name)
    if vector.device != reference.device:
        raise ValueError(f"{name} must be on {reference.device} like {reference_name}, got {vector.device}")


_INTEGERS = (
    torch.uint8,
    torch.uint16,
    torch.uint32,
    torch.uint64,
    torch.int8,
    torch.int16,
    torch.int32,
    torch.int64,
)


def check_tensors(**arguments: object) -> None:
    """Checks that the arguments, by their names, are tensors, not such as a dictionary of a model's outputs."""
    for name, x in arguments.items():
        if not isinstance(x, Tensor):
            raise TypeError(f"{name} must be a tensor, got {type(x).__name__}")


def check_labels(labels: Tensor) -> None:
    """Checks that `labels` have an integer dtype."""
    if not isinstance(labels, Tensor) or labels.dtype not in _INTEGERS:
        kind = labels.dtype if isinstance(labels, Tensor) else type(labels).__name__
        raise TypeError(f"labels must be a tensor of an integer dtype, got {kind}; labels.long() converts it")
    _check_dense("labels", labels)


def check_number(name: str, value: object, holds: Callable[[float], bool], expected: str) -> None:
    """Checks that `value` is a number for which `holds` is true; `expected` says in words when it is."""
    if not isinstance(value, Real | Tensor):
        raise TypeError(f"{name} must be {expected}, got {value!r}")
    if not holds(value):  # type: ignore[arg-type]  # a number, or a tensor that holds one
        raise ValueError(f"{name} must be {expected}, got {value}")


def check_weights_of_classes(class_weights: Tensor) -> None:
    """Checks that `class_weights` is a tensor of real numbers."""
    if not isinstance(class_weights, Tensor):
        raise TypeError(
            f"class_weights must be a tensor, got {type(class_weights).__name__}; use torch.tensor(class_weights)"
        )
    if not class_weights.dtype.is_floating_point and class_weights.dtype not in _INTEGERS:
        raise TypeError(f"class_weights must be of a floating or integer dtype, got {class_weights.dtype}")


def check_batch_norm(
    name: str, x: Tensor, mean: Tensor, invstd: Tensor, gamma: Tensor | None, beta: Tensor | None
) -> None:
    """Checks that `x` (called `name`) is a map, and that the vectors fit its channels."""
    check_map(name, x)
    vectors = {"mean": mean, "invstd": invstd, "gamma": gamma, "beta": beta}
    for vector_name, vector in vectors.items():
        if vector is None and vector_name in ("mean", "invstd"):
            raise TypeError(f"{vector_name} must be a tensor [{x.shape[1]}], got None")
        check_vector(vector_name, vector, x.shape[1], name, x)


def check_weight(weight: Tensor, name: str, x: Tensor, kernel_size: int = 1) -> None:
    """Checks that `weight` fits a convolution of `x` (called `name`) with a square kernel."""
    check_tensors(weight=weight)
    expected = (x.shape[1], kernel_size, kernel_size)
    if weight.dim() != 4 or weight.shape[0] == 0 or weight.shape[1:] != expected:
        shape = ", ".join(map(str, expected))
        raise ValueError(
            f"weight must be [M, {shape}] for {name} with {x.shape[1]} channels, got {tuple(weight.shape)}"
        )
    check_like("weight", weight, name, x)


def check_grad(grad: Tensor, shape: tuple[int, ...], like: Tensor) -> None:
    """Checks that `grad` fits an output of `shape`."""
    if grad.shape != shape:
        raise ValueError(f"grad must be {tuple(shape)} like the output, got shape {tuple(grad.shape)}")
    check_like("grad", grad, "the output", like)
