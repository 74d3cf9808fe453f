// _core.RecordedLaunches. Blocks and slots are numbers, memory is addresses.
#include "recorded_launches.h"

#include <pybind11/stl.h>
#include <pybind11/typing.h>

#include <vector>

#include "../cuda/runtime/recorded_launches.h"
#include "addresses.h"
#include "arguments.h"

namespace py = pybind11;

namespace ladderseg::bindings {
namespace {

using cuda::RecordedLaunches;
using Pair = py::typing::Tuple<py::int_, py::int_>;
using Pairs = py::typing::List<Pair>;

// Numbers of slots, kept by the core from step to step.
struct Slots {
  std::vector<int64_t> numbers;
};

py::typing::Optional<Pair> find(const RecordedLaunches& launches, Address address, int64_t bytes) {
  const auto place = launches.find(address, bytes);
  if (!place) return py::none();
  return py::make_tuple(place->block, place->offset);
}

Pairs spans(const RecordedLaunches& launches) {
  py::list result;
  for (const RecordedLaunches::Span& span : launches.spans()) result.append(py::make_tuple(span.first, span.last));
  return result;
}

}  // namespace

void register_recorded_launches(py::module_& module) {
  py::class_<Slots>(module, "Slots").def(py::init<std::vector<int64_t>>(), py::arg("numbers"));
  py::class_<RecordedLaunches>(module, "RecordedLaunches")
      .def(py::init<>())
      .def("add_block", &RecordedLaunches::add_block, py::arg("address"), py::arg("bytes"))
      .def("find", &find, py::arg("address"), py::arg("bytes"))
      .def("forget_blocks_except", &RecordedLaunches::forget_blocks_except, py::arg("blocks"))
      .def("use", &RecordedLaunches::use, py::arg("blocks"))
      .def("start", &RecordedLaunches::start)
      .def("stop", &RecordedLaunches::stop)
      .def("place", &RecordedLaunches::place, py::arg("slots"), py::arg("offsets"), py::arg("slot_count"))
      .def("set_base", &RecordedLaunches::set_base, py::arg("slot"), py::arg("address"))
      .def(
          "set_bases",
          [](RecordedLaunches& launches, const Slots& slots, const Addresses& addresses) {
            launches.set_bases(slots.numbers, addresses.values);
          },
          py::arg("slots"), py::arg("addresses"))
      .def(
          "repeat",
          [](RecordedLaunches& launches, int64_t first, int64_t last, Address stream) {
            const py::gil_scoped_release release;
            launches.repeat(first, last, pointer<void>(stream));
          },
          py::arg("first"), py::arg("last"), py::arg("stream"))
      .def(
          "repeat_on_cpu",
          [](RecordedLaunches& launches, int64_t first, int64_t last, int threads) {
            const py::gil_scoped_release release;
            launches.repeat_on_cpu(first, last, threads);
          },
          py::arg("first"), py::arg("last"), py::arg("threads"))
      .def_property_readonly("launches", &RecordedLaunches::launches)
      .def_property_readonly("events", &RecordedLaunches::events)
      .def_property_readonly("failure", &RecordedLaunches::failure)
      .def_property_readonly("block_bytes", &RecordedLaunches::block_bytes)
      .def_property_readonly("spans", &spans);
}

}  // namespace ladderseg::bindings
