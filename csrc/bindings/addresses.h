// _core.Addresses: where tensors lie.
#pragma once

#include <pybind11/pybind11.h>

#include <vector>

#include "arguments.h"

namespace ladderseg::bindings {

// Addresses of some tensors, read once and compared or passed on without Python's numbers.
struct Addresses {
  std::vector<Address> values;
};

void register_addresses(pybind11::module_& module);

}  // namespace ladderseg::bindings
