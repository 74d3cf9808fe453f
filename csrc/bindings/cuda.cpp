// _core.Cuda, and the runtime: the driver, where kernel images come from, records of launches.
#include "cuda.h"

#include <pybind11/stl.h>
#include <pybind11/typing.h>

#include "../cuda/runtime/launch.h"
#include "arguments.h"

namespace py = pybind11;

namespace ladderseg::bindings {
namespace {

using Size = py::typing::Tuple<py::int_, py::int_, py::int_>;
using Allocate = py::typing::Callable<py::int_(py::int_)>;
using ImageProvider = py::typing::Callable<py::bytes(py::str, py::typing::Tuple<py::int_, py::int_>, py::int_)>;

using cuda::Queue;

// The place where a kernel runs, in Python _core.Cuda. `allocate` takes a number of bytes and returns the address of
// memory that lives as long as this object.
Queue queue(cuda::Element element, int device, Address stream, Allocate allocate, bool allow_tf32) {
  return {element, device, pointer<void>(stream),
          [allocate](int64_t bytes) { return pointer<void>(allocate(bytes).cast<Address>()); }, allow_tf32};
}

// Python's provider is never destroyed: when the process ends, the interpreter may be gone before the core is.
void set_image_provider(ImageProvider provider) {
  auto* const held = new py::function(std::move(provider));
  cuda::set_image_provider([held](const std::string& name, int major, int minor, int driver_version) {
    const py::gil_scoped_acquire gil;
    return (*held)(name, py::make_tuple(major, minor), driver_version).cast<std::string>();
  });
}

Size size(const cuda::Size& size) { return py::make_tuple(size.x, size.y, size.z); }

}  // namespace

void register_cuda(py::module_& module) {
  py::enum_<cuda::Element>(module, "Element")
      .value("float32", cuda::Element::float32)
      .value("float64", cuda::Element::float64)
      .value("float16", cuda::Element::float16)
      .value("bfloat16", cuda::Element::bfloat16);
  py::class_<Queue>(module, "Cuda")
      .def(py::init(&queue), py::arg("element"), py::arg("device"), py::arg("stream"), py::arg("allocate"),
           py::arg("allow_tf32"));
  py::class_<cuda::Record>(module, "LaunchRecord")
      .def_readonly("kernel", &cuda::Record::kernel)
      .def_property_readonly("grid", [](const cuda::Record& record) { return size(record.grid); })
      .def_property_readonly("block", [](const cuda::Record& record) { return size(record.block); })
      .def_readonly("read_bytes", &cuda::Record::read_bytes)
      .def_readonly("written_bytes", &cuda::Record::written_bytes)
      .def_readonly("operations", &cuda::Record::operations);

  module.def("cuda_use_driver", &cuda::use_driver, py::arg("path"),
             "The driver library that devices are looked up with from now on.");
  module.def("cuda_set_image_provider", &set_image_provider, py::arg("provider"),
             "provider(name, (major, minor), driver_version) -> the kernel image, bytes.");
  module.def("cuda_start_recording", &cuda::start_recording, py::arg("capability"), py::arg("multiprocessors"),
             "From now on launches are recorded and not done.");
  module.def("cuda_stop_recording", &cuda::stop_recording, "The records of launches since.");
}

}  // namespace ladderseg::bindings
