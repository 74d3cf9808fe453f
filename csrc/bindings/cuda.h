// CUDA devices, for the module `_core`.
#pragma once

#include <pybind11/pybind11.h>

namespace ladderseg::bindings {

// Adds Cuda, Element, LaunchRecord and the functions cuda_*.
void register_cuda(pybind11::module_& module);

}  // namespace ladderseg::bindings
