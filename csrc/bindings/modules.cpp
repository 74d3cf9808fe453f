// Reads attributes and tensors of many modules.
#include "modules.h"

#include <pybind11/stl.h>
#include <pybind11/typing.h>

#include <unordered_set>
#include <utility>
#include <vector>

namespace py = pybind11;

namespace ladderseg::bindings {

py::object attributes_of(PyObject* object) {
  auto found = py::reinterpret_steal<py::object>(PyObject_GenericGetDict(object, nullptr));
  if (!found) throw py::error_already_set();
  return found;
}

PyObject* find(const py::object& dictionary, PyObject* key) {
  PyObject* const found = PyDict_GetItemWithError(dictionary.ptr(), key);
  if (!found && PyErr_Occurred()) throw py::error_already_set();
  return found;
}

namespace {

using Object = py::object;
using Names = py::typing::Tuple<py::str, py::ellipsis>;
using Key = py::typing::Tuple<Object, py::str>;

// The attribute `name`, wherever the object's class has it if not in the object's own dictionary.
py::object attribute(PyObject* object, const py::object& own, PyObject* name) {
  if (PyObject* const found = find(own, name)) return py::reinterpret_borrow<py::object>(found);
  auto found = py::reinterpret_steal<py::object>(PyObject_GetAttr(object, name));
  if (!found) throw py::error_already_set();
  return found;
}

py::list attributes(const py::list& modules, const Names& names) {
  py::list found(modules.size() * names.size());
  Py_ssize_t next = 0;
  for (const py::handle module : modules) {
    const py::object own = attributes_of(module.ptr());
    for (const py::handle name : names)
      PyList_SET_ITEM(found.ptr(), next++, attribute(module.ptr(), own, name.ptr()).release().ptr());
  }
  return found;
}

py::list modules_where(const Object& root, const py::str& name, const py::str& children) {
  py::list found;
  std::vector<py::object> remaining{root};
  std::unordered_set<PyObject*> seen{root.ptr()};
  while (!remaining.empty()) {
    const py::object module = std::move(remaining.back());
    remaining.pop_back();
    const py::object own = attributes_of(module.ptr());
    const int holds = PyObject_IsTrue(attribute(module.ptr(), own, name.ptr()).ptr());
    if (holds < 0) throw py::error_already_set();
    if (holds) found.append(module);
    const py::object below = attribute(module.ptr(), own, children.ptr());
    visit_items(below.ptr(), [&](PyObject*, PyObject* child) {
      if (child != Py_None && seen.insert(child).second) remaining.push_back(py::reinterpret_borrow<py::object>(child));
      return true;
    });
  }
  return found;
}

// Tensors that modules hold under certain names.
class ModuleTensors {
 public:
  ModuleTensors(py::str table, std::vector<std::pair<py::object, py::str>> keys)
      : table_(std::move(table)), keys_(std::move(keys)), present_(keys_.size()), present_keys_(py::tuple()) {}

  py::typing::Tuple<py::tuple, py::list> read() {
    py::list tensors;
    std::vector<bool> present(keys_.size());
    py::object own, table;
    PyObject* read = nullptr;  // the module that `own` and `table` belong to
    for (std::size_t i = 0; i < keys_.size(); ++i) {
      const auto& [module, name] = keys_[i];
      if (module.ptr() != read) {
        own = attributes_of(module.ptr());
        table = attribute(module.ptr(), own, table_.ptr());
        read = module.ptr();
      }
      PyObject* const found = find(table, name.ptr());
      // Not in the table: computed by a property of the class, as by a parametrization.
      const py::object tensor = found ? py::reinterpret_borrow<py::object>(found) : attribute(read, own, name.ptr());
      if (tensor.is_none()) continue;
      present[i] = true;
      tensors.append(tensor);
    }
    if (present != present_) {
      py::list keys;
      for (std::size_t i = 0; i < keys_.size(); ++i)
        if (present[i]) keys.append(py::make_tuple(keys_[i].first, keys_[i].second));
      py::tuple present_keys(keys);
      present_ = std::move(present);
      present_keys_ = std::move(present_keys);
    }
    return py::make_tuple(present_keys_, tensors);
  }

 private:
  py::str table_;
  std::vector<std::pair<py::object, py::str>> keys_;
  std::vector<bool> present_;
  py::tuple present_keys_;
};

}  // namespace

void register_modules(py::module_& module) {
  py::class_<ModuleTensors>(module, "ModuleTensors")
      .def(py::init<py::str, std::vector<std::pair<py::object, py::str>>>(), py::arg("table"), py::arg("keys"))
      .def("read", &ModuleTensors::read);
  module.def("attributes", &attributes, py::arg("modules"), py::arg("names"),
             "Attributes of all modules, one module after the other.");
  module.def(
      "modules_where", &modules_where, py::arg("root"), py::arg("name"), py::arg("children"),
      "The modules of a tree whose attribute `name` is true; `children` names the dictionary of a module's own.");
}

}  // namespace ladderseg::bindings
