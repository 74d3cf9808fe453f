"""Peak rates of six GPUs, by their maker's data sheets."""

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Device:
    """A GPU: bytes per second of its memory, and operations per second of its arithmetic.

    A multiplication and an addition are two operations. Tensor core rates are for dense operands and sums in float32;
    None if the type has no tensor cores. Without them, 16-bit products are computed in float32, as in cuDNN.
    """

    name: str
    capability: int
    multiprocessors: int
    memory: float
    float32: float
    tensor_tf32: float | None = None
    tensor_float16: float | None = None

    @property
    def clock(self) -> float:
        """Cycles per second, at which the rates are: each multiprocessor has 128 units for float32."""
        return self.float32 / (2 * 128 * self.multiprocessors)

    def multiplies_by_tensor_cores(self, dtype: torch.dtype, allow_tf32: bool) -> bool:
        """Whether products of numbers of `dtype` may use the tensor cores."""
        return self._tensor_rate(dtype) is not None and (dtype == torch.float16 or allow_tf32)

    def rate(self, dtype: torch.dtype, by_tensor_cores: bool) -> float:
        """Rate in operations per second."""
        return self._tensor_rate(dtype) if by_tensor_cores else self.float32

    def floor(self, moved_bytes: float, operations: float, dtype: torch.dtype, by_tensor_cores: bool) -> float:
        """Least time of a launch, in seconds."""
        return max(moved_bytes / self.memory, operations / self.rate(dtype, by_tensor_cores))

    def _tensor_rate(self, dtype: torch.dtype) -> float | None:
        return {torch.float32: self.tensor_tf32, torch.float16: self.tensor_float16}[dtype]


_GIGA, _TERA = 1e9, 1e12

#: Sources, all NVIDIA's. GTX 1070, Titan X: product pages, and the GeForce GTX 1080 whitepaper for the architecture.
#: RTX 3060: product page; its tensor rates from the GA102 whitepaper's per multiprocessor (GeForce halves those with
#: sums in float32). RTX 4090: Ada whitepaper, appendix A. H100 SXM5: H100 data sheet and Hopper whitepaper, table 2,
#: without sparsity. H200: H200 data sheet; the processor is an H100's.
DEVICES = {
    device.name: device
    for device in (
        Device("GTX 1070", 61, 15, 256 * _GIGA, 6.5 * _TERA),
        Device("Titan X (Pascal)", 61, 28, 480 * _GIGA, 11.0 * _TERA),
        Device("RTX 3060", 86, 28, 360 * _GIGA, 12.7 * _TERA, 12.7 * _TERA, 25.5 * _TERA),
        Device("RTX 4090", 89, 128, 1008 * _GIGA, 82.6 * _TERA, 82.6 * _TERA, 165.2 * _TERA),
        Device("H100 SXM", 90, 132, 3350 * _GIGA, 66.9 * _TERA, 494.7 * _TERA, 989.4 * _TERA),
        Device("H200", 90, 132, 4800 * _GIGA, 66.9 * _TERA, 494.7 * _TERA, 989.4 * _TERA),
    )
}
