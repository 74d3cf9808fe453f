// Reads the addresses of tensors.
#include "addresses.h"

#include <pybind11/stl.h>
#include <pybind11/typing.h>

#include <string>

namespace py = pybind11;

namespace ladderseg::bindings {
namespace {

using Read = py::typing::Callable<py::int_(py::ellipsis)>;

// `read` gives the address of a tensor: the core does not know what a tensor is.
Addresses addresses(const Read& read, const py::list& tensors) {
  Addresses found;
  found.values.reserve(tensors.size());
  for (const py::handle tensor : tensors) {
    PyObject* arguments[] = {nullptr, tensor.ptr()};
    const auto address = py::reinterpret_steal<py::object>(
        PyObject_Vectorcall(read.ptr(), arguments + 1, 1 | PY_VECTORCALL_ARGUMENTS_OFFSET, nullptr));
    if (!address) throw py::error_already_set();
    found.values.push_back(PyLong_AsUnsignedLongLong(address.ptr()));
    if (PyErr_Occurred()) throw py::error_already_set();
  }
  return found;
}

// A byte each: the remainder of the address by `unit`; 255 for a tensor without memory, at address 0.
py::bytes alignments(const Addresses& addresses, int unit) {
  if (unit < 1 || unit > 255) throw py::value_error("unit must be from 1 to 255, got " + std::to_string(unit));
  std::string found;
  found.reserve(addresses.values.size());
  for (const Address address : addresses.values)
    found.push_back(address ? static_cast<char>(address % static_cast<Address>(unit)) : '\xff');
  return found;
}

}  // namespace

void register_addresses(py::module_& module) {
  py::class_<Addresses>(module, "Addresses")
      .def(py::init(&addresses), py::arg("read"), py::arg("tensors"))
      .def("alignments", &alignments, py::arg("unit"),
           "A byte for each: the remainder of the address by `unit`; 255 where there is no memory.")
      .def("__len__", [](const Addresses& addresses) { return addresses.values.size(); });
}

}  // namespace ladderseg::bindings
