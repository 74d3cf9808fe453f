// What Python passes: numbers and tensors' memory, and the core's structs made of them.
//
// A map is passed as FeatureMap(address, device, element_bytes, n, h, w, c, pixel_stride). What is contiguous (vectors,
// weights, labels) is passed as a tuple (address, device, bytes), and as None where it is "not wanted". checks.h holds
// both against what the kernels read and write. A device is a number, the same for all tensors on it.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>

#include "ladderseg/kernels.h"

namespace ladderseg {

using Address = uintptr_t;

template <class T>
T* pointer(Address address) {
  return reinterpret_cast<T*>(address);
}

// A contiguous tensor's.
struct Memory {
  Address data = 0;
  int64_t device = 0, bytes = 0;
  bool given = false;  // else it is not wanted, and there is no data

  template <class T>
  T* as() const {
    return pointer<T>(data);
  }
};

struct Map {
  Address data;
  int64_t device, element_bytes, n, h, w, c, pixel_stride;

  bool absent() const { return !data && c == 0; }
  bool empty() const { return n == 0 || h == 0 || w == 0 || c == 0; }

  template <class T>
  operator FeatureMap<T>() const {
    return {pointer<T>(data), n, h, w, c, pixel_stride};
  }
};

struct ImageBatch {
  Address data;
  int64_t device, element_bytes, n, c, h, w, stride_n, stride_c, stride_h, stride_w;

  template <class T>
  operator Images<T>() const {
    return {pointer<const T>(data), n, c, h, w, stride_n, stride_c, stride_h, stride_w};
  }
};

struct Norm {
  Memory mean, scale, shift;

  template <class T>
  operator BnRelu<T>() const {
    return {mean.as<const T>(), scale.as<const T>(), shift.as<const T>()};
  }
};

struct Sums {
  Memory masked, centred;

  operator BnSums() const { return {masked.as<double>(), centred.as<double>()}; }
};

struct Correction {
  Map input;
  Memory mean, constant, slope;
};

struct Gradient {
  Map grad;
  Correction correction;

  template <class T>
  operator CorrectedGradient<T>() const {
    return {grad, correction.input, correction.mean.as<const T>(), correction.constant.as<const T>(),
            correction.slope.as<const T>()};
  }
};

}  // namespace ladderseg

namespace pybind11::detail {

template <>
struct type_caster<ladderseg::Memory> {
  PYBIND11_TYPE_CASTER(ladderseg::Memory, const_name("tuple[int, int, int] | None"));

  bool load(handle source, bool) {
    if (source.is_none()) return true;
    PyObject* const triple = source.ptr();
    if (!PyTuple_CheckExact(triple) || PyTuple_GET_SIZE(triple) != 3) return false;
    value.data = PyLong_AsSize_t(PyTuple_GET_ITEM(triple, 0));
    if (!PyErr_Occurred()) value.device = PyLong_AsLongLong(PyTuple_GET_ITEM(triple, 1));
    if (!PyErr_Occurred()) value.bytes = PyLong_AsLongLong(PyTuple_GET_ITEM(triple, 2));
    value.given = true;
    if (!PyErr_Occurred()) return true;
    PyErr_Clear();
    return false;
  }
};

}  // namespace pybind11::detail
