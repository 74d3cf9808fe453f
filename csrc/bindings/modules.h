// torch's modules as the core sees them: objects whose dictionaries hold their attributes, their modules and their
// tensors. A lean step reads those of hundreds of modules, for which Python would take longer than for the rest of it.
//
// Nothing here knows torch: names of attributes and dictionaries come from Python.
#pragma once

#include <pybind11/pybind11.h>

namespace ladderseg::bindings {

// The dictionary of an object's attributes.
pybind11::object attributes_of(PyObject* object);

// The value under `key`, borrowed; nullptr if there is none.
PyObject* find(const pybind11::object& dictionary, PyObject* key);

// Calls visit(key, value) for the items of a dictionary, in its order, until one call returns false; returns whether
// none did.
template <class Visit>
bool visit_items(PyObject* dictionary, Visit visit) {
  if (PyDict_CheckExact(dictionary)) {
    PyObject *key = nullptr, *value = nullptr;
    Py_ssize_t position = 0;
    while (PyDict_Next(dictionary, &position, &key, &value))
      if (!visit(key, value)) return false;
    return true;
  }
  // The order of a collections.OrderedDict is another than that of the dictionary in it.
  const auto items = pybind11::reinterpret_steal<pybind11::object>(PyMapping_Items(dictionary));
  if (!items) throw pybind11::error_already_set();
  for (const pybind11::handle item : items) {
    const auto pair = pybind11::reinterpret_borrow<pybind11::tuple>(item);
    if (!visit(PyTuple_GET_ITEM(pair.ptr(), 0), PyTuple_GET_ITEM(pair.ptr(), 1))) return false;
  }
  return true;
}

void register_modules(pybind11::module_& module);

}  // namespace ladderseg::bindings
