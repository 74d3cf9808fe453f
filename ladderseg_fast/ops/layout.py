"""Pixel-major tensors, the layout that the core works on.

A tensor [N, C, H, W] is pixel-major when the channels of a pixel are contiguous and its pixels, in the order
n, y, x, lie at equal distances: any channels_last tensor, and any range of its channels.
"""

import mmap

import torch
from torch import Tensor

from .. import _core


def pixel_stride(x: Tensor) -> int | None:
    """Elements from pixel to pixel of `x` [N, C, H, W], or None if it is not pixel-major."""
    n, c, h, w = x.shape
    if x.numel() == 0:
        return c
    if c > 1 and x.stride(1) != 1:
        return None
    if w > 1:
        stride = x.stride(3)
    elif h > 1:
        stride = x.stride(2)
    elif n > 1:
        stride = x.stride(0)
    else:
        return c
    uniform = (h == 1 or x.stride(2) == w * stride) and (n == 1 or x.stride(0) == h * w * stride)
    return stride if uniform and stride >= c else None


def is_channels_last(x: Tensor) -> bool:
    """Whether torch's operators take x [N, C, H, W] for a channels_last tensor, and give such ones for it.

    They look at the strides alone: a range of channels is one too. Source: torch's is_channels_last_strides_2d.
    """
    if x.numel() == 0 or x.stride(1) == 0:
        return False
    least = 0
    for axis in (1, 3, 2, 0):
        size, stride = x.shape[axis], x.stride(axis)
        if stride < least or (axis == 0 and least == x.stride(1)):
            return False
        least = stride * size
    return True


def pixel_major(x: Tensor) -> Tensor:
    """Returns `x` itself if it is pixel-major, otherwise a channels_last copy."""
    if pixel_stride(x) is not None:
        return x
    return empty(x, *x.shape).copy_(x)


def empty(like: Tensor, n: int, c: int, h: int, w: int) -> Tensor:
    """Uninitialised channels_last tensor [n, c, h, w] of the dtype and device of `like`."""
    return torch.empty((n, c, h, w), dtype=like.dtype, device=like.device, memory_format=torch.channels_last)


def fresh_buffer(size: int, device: torch.device) -> Tensor:
    """Uninitialised buffer [size] uint8 for large maps; on the CPU in huge pages if the system has them.

    On the CPU the memory comes from the system, not from an allocator, which would keep some of it after its release.

    Raises:
        RuntimeError: the system does not have enough memory.
    """
    if device.type != "cpu" or not hasattr(mmap, "MAP_ANONYMOUS"):
        return torch.empty(size, dtype=torch.uint8, device=device)
    try:
        pages = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    except OSError as error:
        raise RuntimeError(f"the system has no memory for {size} bytes of feature maps") from error
    buffer = torch.frombuffer(pages, dtype=torch.uint8)
    _core.advise_huge_pages(buffer.data_ptr(), size)
    return buffer


def give_back_pages(part: Tensor) -> bool:
    """Gives a contiguous part of a fresh_buffer back to the system; its contents are lost.

    Returns False, and does nothing, on devices and systems that cannot do this.
    """
    return part.device.type == "cpu" and _core.give_back_pages(part.data_ptr(), part.nbytes)


def give_back_freed(device: torch.device) -> None:
    """Gives freed memory that torch's allocator keeps for later back to a GPU, for a buffer that is about to be made.

    Otherwise the freed buffer that it replaces would stay beside it, since it is too small. It waits for the device. It
    does nothing on a CPU, and while a CUDA graph is captured.
    """
    if device.type == "cuda" and not torch.cuda.is_current_stream_capturing():
        torch.cuda.empty_cache()


def zeros(like: Tensor, n: int, c: int, h: int, w: int) -> Tensor:
    """Tensor [n, c, h, w] of zeros, channels_last, with the dtype and device of `like`."""
    return empty(like, n, c, h, w).zero_()
