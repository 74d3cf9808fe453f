# Made by csrc/bindings/stub.py.
from collections.abc import Callable
from typing import ClassVar, Protocol, TypeAlias

#: (address, device, bytes) of a contiguous tensor; None if it is not wanted.
_Memory: TypeAlias = tuple[int, int, int] | None

class BnSums:
    def __init__(self, masked: _Memory, centred: _Memory) -> None: ...

class Correction:
    def __init__(self, input: FeatureMap, mean: _Memory, constant: _Memory, slope: _Memory) -> None: ...

class Cpu:
    def __init__(self, double_precision: bool, threads: int) -> None: ...

class Cuda:
    def __init__(
        self, element: Element, device: int, stream: int, allocate: Callable[[int], int], allow_tf32: bool
    ) -> None: ...

class Element:
    float32: ClassVar[Element]
    float64: ClassVar[Element]
    float16: ClassVar[Element]
    bfloat16: ClassVar[Element]

class FeatureMap:
    def __init__(
        self, data: int, device: int, element_bytes: int, n: int, h: int, w: int, c: int, pixel_stride: int
    ) -> None: ...

class Gradient:
    def __init__(self, grad: FeatureMap, correction: Correction) -> None: ...

class Images:
    def __init__(
        self,
        data: int,
        device: int,
        element_bytes: int,
        n: int,
        c: int,
        h: int,
        w: int,
        stride_n: int,
        stride_c: int,
        stride_h: int,
        stride_w: int,
    ) -> None: ...

class LabelType:
    uint8: ClassVar[LabelType]
    int32: ClassVar[LabelType]
    int64: ClassVar[LabelType]

class LaunchRecord:
    @property
    def kernel(self) -> str: ...
    @property
    def grid(self) -> tuple[int, int, int]: ...
    @property
    def block(self) -> tuple[int, int, int]: ...
    @property
    def read_bytes(self) -> int: ...
    @property
    def written_bytes(self) -> int: ...
    @property
    def operations(self) -> float: ...

class Norm:
    def __init__(self, mean: _Memory, scale: _Memory, shift: _Memory) -> None: ...

def cuda_use_driver(path: str) -> None: ...
def cuda_set_image_provider(provider: Callable[[str, tuple[int, int], int], bytes]) -> None: ...
def cuda_start_recording(capability: int, multiprocessors: int) -> None: ...
def cuda_stop_recording() -> list[LaunchRecord]: ...
def kernel_names() -> tuple[str, ...]: ...
def product_rate(target: Cpu, repeats: int) -> float: ...
def advise_huge_pages(data: int, bytes: int) -> None: ...
def give_back_pages(data: int, bytes: int) -> bool: ...
def waits_asleep() -> bool: ...
def build_info() -> dict[str, str]: ...
def supported_instruction_sets() -> list[str]: ...
def instruction_set() -> str: ...
def set_instruction_set(name: str) -> None: ...

# Kernels: kernel_names() lists them, csrc/include/ladderseg explains them and their arguments behind the target.
class _Kernel(Protocol):
    def __call__(
        self,
        target: Cpu | Cuda,
        /,
        *arguments: FeatureMap | Images | Gradient | Norm | BnSums | LabelType | _Memory | int | float | bool,
    ) -> None: ...

def __getattr__(name: str) -> _Kernel: ...
