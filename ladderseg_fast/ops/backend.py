"""Where a kernel runs: in the core's CPU code, or on a CUDA device."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import Parameter

from .. import _core
from ..cuda import images

_ELEMENTS = {
    torch.float32: _core.Element.float32,
    torch.float64: _core.Element.float64,
    torch.float16: _core.Element.float16,
    torch.bfloat16: _core.Element.bfloat16,
}

_CPU_DTYPES = (torch.float32, torch.float64)

_core.cuda_set_image_provider(images.image)


@dataclass
class Emulation:
    """A stand-in for the CUDA driver that runs kernels on CPU memory: tests of CUDA code without a device."""

    allow_tf32: bool = False


_emulation: Emulation | None = None


def emulate(driver: str, image_provider: Callable[[str, tuple[int, int], int], bytes]) -> Emulation:
    """From now on tensors on the CPU take the way of CUDA tensors, through the driver library at this path.

    For tests, and only where asked for. image_provider(name, (major, minor), driver_version) returns what that driver
    loads.
    """
    global _emulation
    _core.cuda_use_driver(driver)
    _core.cuda_set_image_provider(image_provider)
    _emulation = Emulation()
    return _emulation


#: Held by whoever launches CUDA kernels, or records launches: all that happen while one thread records are recorded.
cuda_launches = threading.RLock()


class _Symbolic(threading.local):
    meta_is_cpu = False


_symbolic = _Symbolic()


@contextmanager
def symbolic_cpu() -> Iterator[None]:
    """In this region, of this thread, tensors on the meta device stand for tensors on the CPU."""
    before, _symbolic.meta_is_cpu = _symbolic.meta_is_cpu, True
    try:
        yield
    finally:
        _symbolic.meta_is_cpu = before


def is_symbolic(device: torch.device) -> bool:
    """Whether tensors on `device` are shapes that stand for tensors on the CPU."""
    return device.type == "meta" and _symbolic.meta_is_cpu


def runs_on_cuda(device: torch.device) -> bool:
    """Whether tensors on `device` are worked on by CUDA kernels. Those on the meta device are too, outside regions of
    symbolic_cpu: their launches can be recorded (_core.cuda_start_recording)."""
    if device.type == "meta":
        return not _symbolic.meta_is_cpu
    return device.type == "cuda" or (_emulation is not None and device.type == "cpu")


def dtypes(device: torch.device) -> tuple[torch.dtype, ...]:
    """What feature maps on `device` may be made of."""
    return tuple(_ELEMENTS) if runs_on_cuda(device) else _CPU_DTYPES


def real_dtype(dtype: torch.dtype) -> torch.dtype:
    """What vectors and weight gradients beside maps of `dtype` are made of: float32, or float64 beside that."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def backend(x: Tensor) -> "_core.Cpu | _core.Cuda":
    """What the kernels' first argument is to be for maps like `x`.

    Raises:
        RuntimeError: there are no kernels for the device of x.
    """
    device = x.device
    if runs_on_cuda(device):
        return _cuda(x)
    if device.type == "cpu":
        return _core.Cpu(x.dtype == torch.float64, torch.get_num_threads())
    raise RuntimeError(f"ladderseg_fast has no kernels for device {device}, only for CPU and CUDA")


def _cuda(x: Tensor) -> "_core.Cuda":
    scratch: list[Tensor] = []  # goes with the result, when the kernels that use it have been enqueued

    def allocate(size: int) -> int:
        scratch.append(torch.empty(size, dtype=torch.uint8, device=x.device))
        return address(scratch[-1])

    if x.device.type == "cuda":
        stream = torch.cuda.current_stream(x.device).cuda_stream
        return _core.Cuda(_ELEMENTS[x.dtype], x.device.index, stream, allocate, _torch_allows_tf32())
    allow_tf32 = _emulation.allow_tf32 if _emulation is not None else _torch_allows_tf32()
    return _core.Cuda(_ELEMENTS[x.dtype], 0, 0, allocate, allow_tf32)


def _torch_allows_tf32() -> bool:
    """Whether convolutions may round float32 to tf32; newer releases of torch ask in another way."""
    convolutions = getattr(torch.backends.cudnn, "conv", None)
    if convolutions is not None and hasattr(convolutions, "fp32_precision"):
        return convolutions.fp32_precision == "tf32"
    return torch.backends.cudnn.allow_tf32


#: (address, device, bytes) of a contiguous tensor, as the core takes it.
Memory = tuple[int, int, int]

_NOWHERE = 1 << 20


def address(x: Tensor) -> int:
    """Where the tensor's data begin: everything that goes to the core comes by here.

    Tensors on the meta device have none, but where they may stand for others (takes_meta) it must not look absent.

    Raises:
        RuntimeError: the tensor has no memory that holds its values.
    """
    kind = type(x)
    if kind is not Tensor and kind is not Parameter and keeps_values_elsewhere(kind):
        raise RuntimeError(f"a {kind.__name__} has no memory of its own that kernels could work on")
    if x.is_meta:
        if not takes_meta():
            raise RuntimeError("tensors on the meta device have no memory that kernels could work on")
        return _NOWHERE
    if x.is_neg():
        raise RuntimeError("a tensor with the negative bit does not hold its values: resolve_neg() first")
    return x.data_ptr()


def memory(x: Tensor | None) -> Memory | None:
    """That of a contiguous tensor; None where there is none.

    Raises:
        RuntimeError: see `address`.
        ValueError: it is not contiguous.
    """
    if x is None:
        return None
    if not x.is_contiguous():
        raise ValueError(f"a vector or weight must be contiguous, got shape {tuple(x.shape)}, strides {x.stride()}")
    return address(x), x.get_device(), x.nbytes


def takes_meta() -> bool:
    """Whether tensors on the meta device may stand for others here: in symbolic_cpu, or while launches are recorded."""
    return _symbolic.meta_is_cpu or _core.cuda_is_recording()


def keeps_values_elsewhere(kind: type[Tensor]) -> bool:
    """Whether tensors of this class answer operators themselves: fake tensors, functional ones, wrappers of others.

    What memory such a tensor seems to have does not hold its values.
    """
    return kind.__torch_dispatch__ is not Tensor.__torch_dispatch__
