// The kernels of the core (ladderseg/kernels.def) on a CUDA device. Arguments are as in the headers in ladderseg/, with
// addresses instead of typed pointers: maps and weights have the queue's element type, vectors and weight gradients its
// Real (float, or double for float64), sums and statistics are double. All functions enqueue their kernels and return.
//
// Errors: std::runtime_error from the driver, with the kernel's name and sizes.
#pragma once

#include "../runtime/launch.h"
#include "ladderseg/kernels.h"

namespace ladderseg::cuda {

#define KERNEL(name, Arguments) void name(const Queue&, const Arguments<void>&);
#define CUDA_KERNEL(name, Arguments) KERNEL(name, Arguments)
#define CPU_KERNEL(name, Arguments)
#define CPU_PROBE(name, Arguments)
#include "ladderseg/kernels.def"

}  // namespace ladderseg::cuda
