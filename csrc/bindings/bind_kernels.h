// The kernels as functions of the module `_core`, and the classes that say where they run: _core.Cpu and _core.Cuda.
#pragma once

#include <pybind11/pybind11.h>

#include "../cuda/runtime/launch.h"

namespace ladderseg::bindings {

// The element type, and the size of the team.
struct Cpu {
  cuda::Element element;  // float32, float64 or bfloat16
  int threads;
};

// Adds a function for each line of kernels.def except product_rate, and kernel_names(). Every function's first argument
// is a Cpu or a cuda::Queue, in Python a Cuda; kernels for the CPU only do not take a Cuda. This argument gives the
// element type of every map and vector of the call, unless documented otherwise.
void register_kernels(pybind11::module_& module);

}  // namespace ladderseg::bindings
