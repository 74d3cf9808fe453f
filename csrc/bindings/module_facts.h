// _core.ModuleFacts: what some modules were like, to be compared with what they are like now.
#pragma once

#include <pybind11/pybind11.h>

namespace ladderseg::bindings {

void register_module_facts(pybind11::module_& module);

}  // namespace ladderseg::bindings
