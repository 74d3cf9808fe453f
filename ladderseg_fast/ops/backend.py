"""Devices that kernels run on: one Backend per kind of device, which holds everything that differs between them.

Cpu handles tensors on the CPU, and Cuda tensors on CUDA devices, unless `using` chooses another backend. Tensors on the
meta device only have shapes; they represent others if SymbolicCpu or RecordedCuda is chosen. A new kind of device is a
new class: operators ask a backend for its properties, never for its kind.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from .. import _core
from ..cuda import images
from .cost import Cost

_ELEMENTS = {
    torch.float32: _core.Element.float32,
    torch.float64: _core.Element.float64,
    torch.float16: _core.Element.float16,
    torch.bfloat16: _core.Element.bfloat16,
}

_WITHOUT_BFLOAT16 = torch.float32, torch.float64
_WITH_BFLOAT16 = *_WITHOUT_BFLOAT16, torch.bfloat16

#: Capability and multiprocessors of the GPU for which launches are recorded if this machine has none.
_SOME_GPU = 61, 20

#: Function observer(name, cost), called before each kernel.
Observer = Callable[[str, Cost], None]

_observers_change = threading.Lock()

#: Function that returns the image `name` ("bn_relu_float32") for a capability (8, 6) and a version of the driver.
ImageProvider = Callable[[str, tuple[int, int], int], bytes]


class Backend:
    """Kind of device: the types of its tensors, which convolutions are the core's, how a kernel is launched.

    Attributes:
        device_type: type of the device of its tensors.
        on_gpu: whether the host goes on while kernels run, and memory traffic takes most of the time.
        symbolic: whether its tensors are shapes, on the meta device, that represent other tensors.
        tap_major_weights: whether kernels of 3x3 convolutions read weights tap by tap (prepared_weights.py).
        repeats_steps: whether the launches of a lean step are recorded and repeated (lean/recordings.py).
        repeats_predictions: whether those of a pass without backward are, even if others are not.
        observers: called with the name and the cost of every kernel, in whichever thread.
    """

    device_type: str
    on_gpu = False
    symbolic = False
    tap_major_weights = False
    repeats_steps = False
    repeats_predictions = False
    observers: tuple[Observer, ...] = ()

    @property
    def dtypes(self) -> tuple[torch.dtype, ...]:
        """Dtypes that feature maps can have."""
        raise NotImplementedError

    def weight_dtype(self, dtype: torch.dtype) -> torch.dtype:
        """Dtype of the weights that kernels read beside maps of `dtype`."""
        return dtype

    def launch(self, kernel: Callable[..., None], x: Tensor, *arguments: Any) -> None:
        """Runs a kernel of the core for maps like `x` [N, C, H, W]."""
        raise NotImplementedError

    def repeats(self, keep: bool) -> bool:
        """Whether passes are recorded and repeated; keep: those that a backward pass may follow."""
        return self.repeats_steps or (self.repeats_predictions and not keep)

    def repeat(self, launches: "_core.RecordedLaunches", first: int, last: int, device: torch.device) -> None:
        """Repeats launches [first, last) on `device`."""
        raise NotImplementedError

    def may_round_to_tf32(self) -> bool:
        """Whether float32 products may be rounded to tf32 at present."""
        return False

    def on_shapes(self, device: torch.device) -> "Backend":
        """Backend of tensors on the meta device that represent this backend's tensors on `device`."""
        raise NotImplementedError

    def is_capturing(self, device: torch.device) -> bool:
        """Whether what is launched now becomes part of a CUDA graph."""
        return False

    def begin(self) -> None:
        """Prepares the backend; called whenever it becomes the one in use."""

    def end(self) -> None:
        """Undoes `begin`."""

    @contextmanager
    def observed_by(self, observer: Observer) -> Iterator[None]:
        """Region in which `observer` is called for every kernel; regions of several threads may overlap."""
        with _observers_change:
            self.observers = (*self.observers, observer)
        try:
            yield
        finally:
            with _observers_change:
                self.observers = tuple(each for each in self.observers if each is not observer)


class Cpu(Backend):
    """The core's own code, on torch's number of threads."""

    device_type = "cpu"
    repeats_predictions = True

    @property
    def dtypes(self) -> tuple[torch.dtype, ...]:
        """float32 and float64, and bfloat16 where the instruction set in use multiplies it."""
        return _WITH_BFLOAT16 if _core.has_bfloat16() else _WITHOUT_BFLOAT16

    def weight_dtype(self, dtype: torch.dtype) -> torch.dtype:
        """The real_dtype: kernels round weights themselves, once, in the form in which they multiply them."""
        return real_dtype(dtype)

    def launch(self, kernel: Callable[..., None], x: Tensor, *arguments: Any) -> None:
        kernel(_core.Cpu(_ELEMENTS[x.dtype], torch.get_num_threads()), *arguments)

    def repeat(self, launches: "_core.RecordedLaunches", first: int, last: int, device: torch.device) -> None:
        launches.repeat_on_cpu(first, last, torch.get_num_threads())

    def on_shapes(self, device: torch.device) -> Backend:
        return SymbolicCpu()


class Cuda(Backend):
    """CUDA kernels.

    Args:
        allow_tf32: whether float32 products may be rounded to tf32; None: as torch allows its own convolutions.
    """

    device_type = "cuda"
    dtypes: tuple[torch.dtype, ...] = tuple(_ELEMENTS)
    on_gpu = True
    tap_major_weights = True
    repeats_steps = True

    #: Lock of threads that launch or record launches, because the core records for the whole process at a time.
    _launching = threading.RLock()

    def __init__(self, allow_tf32: bool | None = None) -> None:
        self.allow_tf32 = allow_tf32

    def launch(self, kernel: Callable[..., None], x: Tensor, *arguments: Any) -> None:
        with self._launching:
            kernel(self._queue(x), *arguments)

    def repeat(self, launches: "_core.RecordedLaunches", first: int, last: int, device: torch.device) -> None:
        """Repeats launches [first, last) on torch's current stream of `device`."""
        with self._launching:
            launches.repeat(first, last, self._stream(device)[1])

    def may_round_to_tf32(self) -> bool:
        return _torch_allows_tf32() if self.allow_tf32 is None else self.allow_tf32

    def is_capturing(self, device: torch.device) -> bool:
        return device.type == "cuda" and torch.cuda.is_current_stream_capturing()

    def on_shapes(self, device: torch.device) -> Backend:
        capability, multiprocessors = _SOME_GPU
        if device.type == "cuda" and torch.cuda.is_available():
            properties = torch.cuda.get_device_properties(device)
            capability = 10 * properties.major + properties.minor
            multiprocessors = properties.multi_processor_count
        return RecordedCuda(capability, multiprocessors, self.allow_tf32)

    def _queue(self, x: Tensor) -> "_core.Cuda":
        scratch: list[Tensor] = []  # freed on return, once the kernels that use it are enqueued

        def allocate(size: int) -> int:
            scratch.append(torch.empty(size, dtype=torch.uint8, device=x.device))
            return self._scratch_address(scratch[-1])

        return _core.Cuda(_ELEMENTS[x.dtype], *self._stream(x.device), allocate, self.may_round_to_tf32())

    def _stream(self, device: torch.device) -> tuple[int, int]:
        """Number of the device, and torch's current stream on it."""
        return device.index, torch.cuda.current_stream(device).cuda_stream

    def _scratch_address(self, scratch: Tensor) -> int:
        return scratch.data_ptr()


class EmulatedCuda(Cuda):
    """CUDA kernels on the CPU's memory, through a stand-in for the driver, for tests without a device.

    The core caches loaded kernels by the path of the driver, so another provider needs another path.

    Args:
        driver: path of the library that replaces the driver.
        provider: source of the kernel images that it loads.
        allow_tf32: see Cuda.
    """

    device_type = "cpu"

    def __init__(self, driver: str, provider: ImageProvider, allow_tf32: bool = False) -> None:
        super().__init__(allow_tf32)
        self._driver, self._provider = driver, provider

    def begin(self) -> None:
        _core.cuda_use_driver(self._driver)
        _core.cuda_set_image_provider(self._provider)

    def end(self) -> None:
        _use_nvidias_driver()

    def _stream(self, device: torch.device) -> tuple[int, int]:
        return 0, 0


class SymbolicCpu(Cpu):
    """Tensors on the meta device that represent tensors on the CPU: nothing runs."""

    device_type = "meta"
    symbolic = True
    repeats_predictions = False

    def launch(self, kernel: Callable[..., None], x: Tensor, *arguments: Any) -> None:
        pass


class RecordedCuda(Cuda):
    """Tensors on the meta device that represent tensors on a GPU: launches ask for scratch memory and are recorded.

    Nothing runs. While it is in use, no other thread launches CUDA kernels.

    Args:
        capability: compute capability of the GPU, 86 for 8.6.
        multiprocessors: number of multiprocessors of the GPU.
        allow_tf32: see Cuda.
    """

    device_type = "meta"
    symbolic = True
    repeats_steps = False

    def __init__(self, capability: int, multiprocessors: int, allow_tf32: bool | None = None) -> None:
        super().__init__(allow_tf32)
        self._gpu = capability, multiprocessors
        self._records: list[_core.LaunchRecord] = []

    def begin(self) -> None:
        self._launching.acquire()
        _core.cuda_start_recording(*self._gpu)

    def end(self) -> None:
        self._records += _core.cuda_stop_recording()
        self._launching.release()

    def take_records(self) -> "list[_core.LaunchRecord]":
        """Records of the launches since the last call; to be called by the thread that uses or used the backend."""
        if backend_of(torch.device("meta")) is self:
            self.end()
            self.begin()
        records, self._records = self._records, []
        return records

    def _stream(self, device: torch.device) -> tuple[int, int]:
        return 0, 0

    def _scratch_address(self, scratch: Tensor) -> int:
        return NOWHERE


class Shapes(Cuda):
    """Tensors on the meta device that represent no others: operators return shapes, and kernels do not run."""

    device_type = "meta"
    repeats_steps = False

    def launch(self, kernel: Callable[..., None], x: Tensor, *arguments: Any) -> None:
        raise RuntimeError("tensors on the meta device have no memory that kernels could work on")


#: Address given to tensors on the meta device that represent others, which must not look absent.
NOWHERE = 1 << 20


class _OfThread(threading.local):
    meta: Backend = Shapes()


_of_thread = _OfThread()
_of_process: dict[str, Backend] = {backend.device_type: backend for backend in (Cpu(), Cuda())}


def backend_of(device: torch.device) -> Backend:
    """Backend of tensors on `device`.

    Raises:
        RuntimeError: there are no kernels for the device.
    """
    kind = device.type
    found = _of_thread.meta if kind == "meta" else _of_process.get(kind)
    if found is None:
        raise RuntimeError(f"ladderseg_fast has no kernels for device {device}, only for CPU and CUDA")
    return found


def use(backend: Backend) -> None:
    """Makes `backend` the one in use for its type of device; for the meta device, in this thread only."""
    kind = backend.device_type
    backend_of(torch.device(kind)).end()
    if kind == "meta":
        _of_thread.meta = backend
    else:
        _of_process[kind] = backend
    backend.begin()


@contextmanager
def using(backend: Backend) -> Iterator[Backend]:
    """Region in which `backend` is in use: see `use`."""
    before = backend_of(torch.device(backend.device_type))
    use(backend)
    try:
        yield backend
    finally:
        use(before)


def launch(kernel: Callable[..., None], x: Tensor, *arguments: Any) -> None:
    """Runs a kernel of the core on the backend of maps like `x` [N, C, H, W]."""
    backend_of(x.device).launch(kernel, x, *arguments)


def real_dtype(dtype: torch.dtype) -> torch.dtype:
    """Dtype of vectors and weight gradients beside maps of `dtype`: float64 beside float64, otherwise float32."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def keeps_values_elsewhere(kind: type[Tensor]) -> bool:
    """Whether tensors of this class handle operators themselves: fake tensors, functional tensors, wrappers.

    The memory that such a tensor seems to have does not hold its values.
    """
    return kind.__torch_dispatch__ is not Tensor.__torch_dispatch__


def _torch_allows_tf32() -> bool:
    """Whether convolutions may round float32 to tf32; newer releases of torch have another setting for it."""
    convolutions = getattr(torch.backends.cudnn, "conv", None)
    if convolutions is not None and hasattr(convolutions, "fp32_precision"):
        return convolutions.fp32_precision == "tf32"
    return torch.backends.cudnn.allow_tf32


def _use_nvidias_driver() -> None:
    _core.cuda_use_driver("libcuda.so.1")
    _core.cuda_set_image_provider(images.image)


_use_nvidias_driver()
