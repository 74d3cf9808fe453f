// Compares modules with what they were like when they were examined.
#include "module_facts.h"

#include <pybind11/stl.h>
#include <pybind11/typing.h>

#include <optional>
#include <utility>
#include <vector>

#include "modules.h"

namespace py = pybind11;

namespace ladderseg::bindings {
namespace {

using Object = py::object;
using Names = std::vector<py::str>;

// Facts in the order in which they are read.
struct Facts {
  std::vector<py::object> objects;
  std::vector<Py_ssize_t> numbers;
};

// Each function adds a fact, and returns true.
class Recording {
 public:
  explicit Recording(Facts& facts) : facts_(facts) {}

  bool number(Py_ssize_t value) { return facts_.numbers.push_back(value), true; }
  bool identity(PyObject* value) { return facts_.objects.push_back(py::reinterpret_borrow<py::object>(value)), true; }
  bool text(PyObject* value) { return identity(value); }
  // Lists are copied: a user may change them in place.
  bool value(PyObject* value) {
    if (!PyList_Check(value)) return identity(value);
    auto copy = py::reinterpret_steal<py::object>(PyList_GetSlice(value, 0, PyList_GET_SIZE(value)));
    if (!copy) throw py::error_already_set();
    return facts_.objects.push_back(std::move(copy)), true;
  }

 private:
  Facts& facts_;
};

// Each function returns whether the next fact is as recorded. After one that is not, the others have no meaning.
class Comparison {
 public:
  explicit Comparison(const Facts& facts) : facts_(facts) {}

  bool number(Py_ssize_t value) {
    return next_number_ < facts_.numbers.size() && facts_.numbers[next_number_++] == value;
  }
  bool identity(PyObject* value) { return next() == value; }
  bool text(PyObject* value) {
    PyObject* const seen = next();
    if (!seen || value == seen) return seen != nullptr;
    return PyUnicode_Check(value) && PyUnicode_Check(seen) && PyUnicode_Compare(value, seen) == 0;
  }
  bool value(PyObject* value) {
    PyObject* const seen = next();
    return seen && py::reinterpret_borrow<py::object>(value).equal(py::handle(seen));
  }

 private:
  PyObject* next() { return next_object_ < facts_.objects.size() ? facts_.objects[next_object_++].ptr() : nullptr; }

  const Facts& facts_;
  std::size_t next_object_ = 0, next_number_ = 0;
};

class ModuleFacts {
 public:
  ModuleFacts(const Object& root, std::vector<py::object> below, bool root_called, Names methods, Names empty,
              Names absent, py::str children, Names tables, std::vector<std::pair<Names, bool>> kinds)
      : below_(std::move(below)),
        root_called_(root_called),
        methods_(std::move(methods)),
        empty_(std::move(empty)),
        absent_(std::move(absent)),
        children_(std::move(children)),
        tables_(std::move(tables)),
        kinds_(std::move(kinds)) {
    if (kinds_.size() != 1 + below_.size()) throw py::value_error("every module needs its attributes");
    add_class(root);
    for (const py::object& module : below_) add_class(module);
    Recording recording(facts_);
    py::list tensors;
    visit_all(root, recording, tensors);
  }

  std::optional<py::list> tensors(const Object& root) const {
    Comparison comparison(facts_);
    py::list tensors;
    if (!visit_all(root, comparison, tensors)) return std::nullopt;
    return tensors;
  }

 private:
  void add_class(const py::object& module) {
    const auto found = py::reinterpret_borrow<py::object>(reinterpret_cast<PyObject*>(Py_TYPE(module.ptr())));
    for (const py::object& known : classes_)
      if (known.is(found)) return;
    classes_.push_back(found);
  }

  template <class Look>
  bool visit_all(const Object& root, Look& look, py::list& tensors) const {
    if (!visit_classes(look)) return false;
    if (!visit(root.ptr(), kinds_[0], root_called_, look, tensors)) return false;
    for (std::size_t i = 0; i < below_.size(); ++i)
      if (!visit(below_[i].ptr(), kinds_[1 + i], false, look, tensors)) return false;
    return true;
  }

  template <class Look>
  bool visit_classes(Look& look) const {
    for (const py::object& kind : classes_)
      for (const py::str& name : methods_) {
        PyObject* const method = _PyType_Lookup(reinterpret_cast<PyTypeObject*>(kind.ptr()), name.ptr());
        if (!look.identity(method ? method : Py_None)) return false;
      }
    return true;
  }

  template <class Look>
  bool visit(PyObject* module, const std::pair<Names, bool>& kind, bool called, Look& look, py::list& tensors) const {
    if (!look.identity(reinterpret_cast<PyObject*>(Py_TYPE(module)))) return false;
    const py::object own = attributes_of(module);
    if (!called) {
      for (const py::str& name : empty_)
        if (!look.number(size_of(find(own, name.ptr())))) return false;
      for (const py::str& name : absent_)
        if (!look.number(find(own, name.ptr()) != nullptr)) return false;
      if (!look.number(PyDict_GET_SIZE(own.ptr()))) return false;
    }
    const auto same_child = [&](PyObject* name, PyObject* child) { return look.text(name) && look.identity(child); };
    if (!visit_table(own, children_, look, same_child)) return false;
    for (const py::str& name : kind.first) {
      PyObject* const value = find(own, name.ptr());
      if (!look.value(value ? value : Py_None)) return false;
    }
    if (!kind.second) return true;
    const auto same_tensor = [&](PyObject* name, PyObject* tensor) {
      if (tensor != Py_None) tensors.append(py::handle(tensor));
      return look.text(name) && look.number(tensor == Py_None);
    };
    for (const py::str& table : tables_)
      if (!visit_table(own, table, look, same_tensor)) return false;
    return true;
  }

  template <class Look, class Visit>
  static bool visit_table(const py::object& own, const py::str& name, Look& look, Visit visit_item) {
    PyObject* const table = find(own, name.ptr());
    const Py_ssize_t size = size_of(table);
    return look.number(size) && size >= 0 && visit_items(table, visit_item);
  }

  // Number of items; -1 if there is no dictionary.
  static Py_ssize_t size_of(PyObject* table) { return table && PyDict_Check(table) ? PyDict_Size(table) : -1; }

  std::vector<py::object> below_, classes_;
  bool root_called_;
  Names methods_, empty_, absent_;
  py::str children_;
  Names tables_;
  std::vector<std::pair<Names, bool>> kinds_;
  Facts facts_;
};

}  // namespace

void register_module_facts(py::module_& module) {
  py::class_<ModuleFacts>(module, "ModuleFacts",
                          "The classes, attributes and modules of `root` and the modules `below` it, as they are now.")
      .def(py::init<const Object&, std::vector<py::object>, bool, Names, Names, Names, py::str, Names,
                    std::vector<std::pair<Names, bool>>>(),
           py::arg("root"), py::arg("below"), py::arg("root_called"), py::arg("methods"), py::arg("empty"),
           py::arg("absent"), py::arg("children"), py::arg("tables"), py::arg("kinds"))
      .def("tensors", &ModuleFacts::tensors, py::arg("root"),
           "The tensors in the tables; None if the modules are not as they were.");
}

}  // namespace ladderseg::bindings
