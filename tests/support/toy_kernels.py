"""A directory of kernels like csrc/cuda/kernels, with one operator that compiles in no time."""

from pathlib import Path

KERNEL = """
#include "toy.cuh"
extern "C" __global__ void __launch_bounds__(128) NAME(toy)(Element* x) {
  __shared__ Element shared[128];
  shared[threadIdx.x] = x[threadIdx.x];
  __syncthreads();
  x[threadIdx.x] = shared[127 - threadIdx.x];
}
"""

HEADER = """
#pragma once
#if defined(LADDERSEG_ELEMENT_float32)
using Element = float;
#define NAME(name) name##_float32
#elif defined(LADDERSEG_ELEMENT_float64)
using Element = double;
#define NAME(name) name##_float64
#elif defined(LADDERSEG_ELEMENT_float16)
using Element = short;
#define NAME(name) name##_float16
#elif defined(LADDERSEG_ELEMENT_bfloat16)
using Element = short;
#define NAME(name) name##_bfloat16
#endif
"""


def write_toy_kernels(directory: Path) -> Path:
    """Makes `directory`, with the operator "toy"."""
    directory.mkdir()
    (directory / "toy.cu").write_text(KERNEL)
    (directory / "toy.cuh").write_text(HEADER)
    return directory
