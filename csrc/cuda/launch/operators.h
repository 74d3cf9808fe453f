// The kernels of the core (ladderseg/kernels.def) on a CUDA device. Arguments are those of the headers in ladderseg/,
// with addresses in the place of typed pointers: maps and weights of the queue's element type, vectors and weight
// gradients of its Real (float, or double for float64), sums and statistics of double. All enqueue their kernels and
// return.
//
// Errors: std::runtime_error from the driver, with the kernel's name and sizes.
#pragma once

#include "../runtime/launch.h"
#include "ladderseg/kernels.h"

namespace ladderseg::cuda {

#define KERNEL(name, Arguments) void name(const Queue&, const Arguments<void>&);
#define CPU_KERNEL(name, Arguments)
#include "ladderseg/kernels.def"

}  // namespace ladderseg::cuda
