"""Pointers to tensors' memory for the core: everything that goes to the core passes through here.

The core checks every tensor's extent, element size and device against what it will read and write, and raises
ValueError if they do not fit.
"""

from torch import Tensor
from torch.nn import Parameter

from .. import _core
from .backend import NOWHERE, backend_of, keeps_values_elsewhere
from .layout import pixel_stride

#: (address, device, bytes) of a contiguous tensor.
Memory = tuple[int, int, int]

NO_MAP = _core.FeatureMap(0, 0, 0, 0, 0, 0, 0, 0)


def address(x: Tensor) -> int:
    """Address of the data of a tensor of any shape.

    Raises:
        RuntimeError: the tensor has no memory that holds its values.
    """
    kind = type(x)
    if kind is not Tensor and kind is not Parameter and keeps_values_elsewhere(kind):
        raise RuntimeError(f"a {kind.__name__} has no memory of its own that kernels could work on")
    if x.is_meta:
        if not backend_of(x.device).symbolic:
            raise RuntimeError("tensors on the meta device have no memory that kernels could work on")
        return NOWHERE
    if x.is_neg():
        raise RuntimeError("a tensor with the negative bit does not hold its values: resolve_neg() first")
    return x.data_ptr()


def memory(x: Tensor | None) -> Memory | None:
    """Memory of a contiguous vector or weight of any shape; None for None.

    Raises:
        RuntimeError: see `address`.
        ValueError: the tensor is not contiguous.
    """
    if x is None:
        return None
    if not x.is_contiguous():
        raise ValueError(f"a vector or weight must be contiguous, got shape {tuple(x.shape)}, strides {x.stride()}")
    return address(x), x.get_device(), x.nbytes


def memories(pair: Tensor | tuple[Tensor, Tensor] | None) -> tuple[Memory | None, Memory | None]:
    """Memory of two vectors, or of the rows of [2, C]."""
    return (None, None) if pair is None else (memory(pair[0]), memory(pair[1]))


def feature_map(x: Tensor | None) -> _core.FeatureMap:
    """Pointer to a pixel-major map [N, C, H, W], or a null map for None.

    Raises:
        RuntimeError: see `address`.
        ValueError: the map is not pixel-major.
    """
    if x is None:
        return NO_MAP
    stride = pixel_stride(x)
    if stride is None:
        raise ValueError(f"a map must be pixel-major, got shape {tuple(x.shape)}, strides {x.stride()}")
    n, c, h, w = x.shape
    return _core.FeatureMap(address(x), x.get_device(), x.element_size(), n, h, w, c, stride)


def image_batch(x: Tensor) -> _core.Images:
    """Pointer to images [N, C, H, W] of any strides."""
    return _core.Images(address(x), x.get_device(), x.element_size(), *x.shape, *x.stride())
