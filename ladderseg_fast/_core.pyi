# Made by csrc/bindings/stub.py. Kernels and their arguments are explained in csrc/include/ladderseg.
from collections.abc import Callable
from typing import ClassVar, TypeAlias

#: (address, device, bytes) of a contiguous tensor; None where it is not wanted.
_Memory: TypeAlias = tuple[int, int, int] | None

class BnRelu:
    def __init__(self, mean: _Memory, scale: _Memory, shift: _Memory) -> None: ...

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

def channel_statistics(target: Cpu | Cuda, input: FeatureMap, mean: _Memory, variance: _Memory, /) -> None: ...
def affine_correction(target: Cpu | Cuda, gradient: Gradient, output: FeatureMap, /) -> None: ...
def batch_norm_forward(
    target: Cpu | Cuda,
    channels: int,
    mean: _Memory,
    variance: _Memory,
    running_mean: _Memory,
    running_variance: _Memory,
    batches: _Memory,
    gamma: _Memory,
    beta: _Memory,
    epsilon: float,
    momentum: float,
    unbiased: float,
    norm_mean: _Memory,
    norm_scale: _Memory,
    norm_shift: _Memory,
    invstd: _Memory,
    /,
) -> None: ...
def batch_norm_backward(
    target: Cpu | Cuda,
    channels: int,
    positions: int,
    sums: BnSums,
    invstd: _Memory,
    norm: BnRelu,
    grad_gamma: _Memory,
    grad_beta: _Memory,
    mean: _Memory,
    constant: _Memory,
    slope: _Memory,
    accumulate: bool,
    /,
) -> None: ...
def bn_relu_forward(target: Cpu | Cuda, input: FeatureMap, norm: BnRelu, output: FeatureMap, /) -> None: ...
def bn_relu_backward(
    target: Cpu | Cuda,
    grad_output: FeatureMap,
    input: FeatureMap,
    norm: BnRelu,
    grad_input: FeatureMap,
    accumulate: bool,
    sums: BnSums,
    /,
) -> None: ...
def bn_relu_conv1x1_forward(
    target: Cpu | Cuda,
    input: FeatureMap,
    norm: BnRelu,
    weight: _Memory,
    output: FeatureMap,
    output_mean: _Memory,
    output_variance: _Memory,
    /,
) -> None: ...
def bn_relu_conv1x1_backward(
    target: Cpu | Cuda,
    grad_output: Gradient,
    input: FeatureMap,
    norm: BnRelu,
    weight: _Memory,
    grad_input: FeatureMap,
    accumulate: bool,
    grad_weight: _Memory,
    sums: BnSums,
    /,
) -> None: ...
def bn_relu_conv3x3_forward(
    target: Cpu | Cuda,
    input: FeatureMap,
    input_first_row: int,
    norm: BnRelu,
    weight: _Memory,
    dilation: int,
    output: FeatureMap,
    accumulate: bool,
    output_mean: _Memory,
    output_variance: _Memory,
    /,
) -> None: ...
def bn_relu_conv3x3_backward(
    target: Cpu | Cuda,
    grad_output: Gradient,
    grad_first_row: int,
    input: FeatureMap,
    input_first_row: int,
    norm: BnRelu,
    weight: _Memory,
    dilation: int,
    grad_input: FeatureMap,
    grad_weight: _Memory,
    sums: BnSums,
    /,
) -> None: ...
def bn_relu_avgpool2_forward(target: Cpu | Cuda, input: FeatureMap, norm: BnRelu, output: FeatureMap, /) -> None: ...
def bn_relu_avgpool2_backward(
    target: Cpu | Cuda,
    grad_output: FeatureMap,
    input: FeatureMap,
    norm: BnRelu,
    grad_input: FeatureMap,
    accumulate: bool,
    sums: BnSums,
    /,
) -> None: ...
def bn_relu_maxpool_forward(
    target: Cpu | Cuda, input: FeatureMap, norm: BnRelu, output: FeatureMap, first_row: int, /
) -> None: ...
def bn_relu_maxpool_backward(
    target: Cpu | Cuda,
    grad_output: FeatureMap,
    input: FeatureMap,
    norm: BnRelu,
    grad_input: FeatureMap,
    first_row: int,
    first_grad_row: int,
    sums: BnSums,
    constant: _Memory = ...,
    slope: _Memory = ...,
    /,
) -> None: ...
def stem_forward(
    target: Cpu, images: Images, weight: _Memory, norm: BnRelu, output: FeatureMap, mean: _Memory, variance: _Memory, /
) -> None: ...
def stem_backward_sums(
    target: Cpu, grad_output: Gradient, images: Images, weight: _Memory, norm: BnRelu, sums: BnSums, /
) -> None: ...
def stem_backward_weight(
    target: Cpu,
    grad_output: Gradient,
    images: Images,
    weight: _Memory,
    norm: BnRelu,
    constant: _Memory,
    slope: _Memory,
    grad_weight: _Memory,
    /,
) -> None: ...
def upsample_forward(
    target: Cpu | Cuda, coarse: FeatureMap, output: FeatureMap, first_row: int, height: int, /
) -> None: ...
def upsample_backward(target: Cpu | Cuda, grad_output: FeatureMap, grad_coarse: FeatureMap, /) -> None: ...
def upsample_project_concat_forward(
    target: Cpu | Cuda, coarse: FeatureMap, skip: FeatureMap, norm: BnRelu, weight: _Memory, output: FeatureMap, /
) -> None: ...
def upsample_cross_entropy(
    target: Cpu | Cuda,
    logits: FeatureMap,
    labels: _Memory,
    label_type: LabelType,
    height: int,
    width: int,
    class_weights: _Memory,
    ignore_index: int,
    loss: _Memory,
    grad_logits: FeatureMap,
    invalid_pixel: _Memory,
    /,
) -> None: ...
def upsample_argmax(target: Cpu | Cuda, scores: FeatureMap, labels: _Memory, height: int, width: int, /) -> None: ...
def cuda_use_driver(path: str) -> None: ...
def cuda_set_image_provider(provider: Callable[[str, tuple[int, int], int], bytes]) -> None: ...
def cuda_start_recording(capability: int, multiprocessors: int) -> None: ...
def cuda_is_recording() -> bool: ...
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
