// The operators on a CUDA device, for the module `_core`.
#pragma once

#include <pybind11/pybind11.h>

namespace ladderseg {

// Adds to each operator of the module the way of calling it with a Cuda, and what belongs to it.
void register_cuda(pybind11::module_& module);

}  // namespace ladderseg
