// _core.RecordedLaunches: the launches of a pass, to be repeated with other memory.
#pragma once

#include <pybind11/pybind11.h>

namespace ladderseg::bindings {

void register_recorded_launches(pybind11::module_& module);

}  // namespace ladderseg::bindings
