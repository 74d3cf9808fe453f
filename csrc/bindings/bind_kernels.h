// The kernels as functions of the module `_core`, and what tells them where to run: _core.Cpu and _core.Cuda.
#pragma once

#include <pybind11/pybind11.h>

#include "../cuda/runtime/launch.h"

namespace ladderseg::bindings {

// The element type, and the size of the team.
struct Cpu {
  bool double_precision;
  int threads;
};

// Adds a function for each line of kernels.def, product_rate excepted, and kernel_names(). Every function's first
// argument is a Cpu or a cuda::Queue, in Python a Cuda; kernels of the CPU alone have no function of a Cuda. It gives
// the element type of every map and vector of the call, except those documented as another.
void register_kernels(pybind11::module_& module);

}  // namespace ladderseg::bindings
