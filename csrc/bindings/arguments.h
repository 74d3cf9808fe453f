// Arguments that Python passes: numbers, and tensors' memory grouped like the core's structs.
//
// Python passes a map as FeatureMap(address, device, element_bytes, n, h, w, c, pixel_stride), contiguous data
// (vectors, weights, labels) as a tuple (address, device, bytes), and data that is not wanted as None. A device is a
// number, the same for all tensors on it. checks.h compares memory with what the kernels read and write; after that,
// memory converts to the pointers of any of the core's structs.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>

#include "ladderseg/kernels.h"

namespace ladderseg::bindings {

using Address = uintptr_t;

template <class T>
T* pointer(Address address) {
  return reinterpret_cast<T*>(address);
}

// Memory of a contiguous tensor.
struct Memory {
  Address data = 0;
  int64_t device = 0, bytes = 0;
  bool given = false;  // if false, it is not wanted, and there is no data

  template <class T>
  operator T*() const {
    return pointer<T>(data);
  }
};

struct Map : FeatureMap<void> {
  int64_t device, element_bytes;

  Map(Address data, int64_t device, int64_t element_bytes, int64_t n, int64_t h, int64_t w, int64_t c,
      int64_t pixel_stride)
      : FeatureMap<void>{pointer<void>(data), n, h, w, c, pixel_stride}, device(device), element_bytes(element_bytes) {}

  bool absent() const { return !data && c == 0; }
  bool empty() const { return n == 0 || h == 0 || w == 0 || c == 0; }

  template <class T>
  operator FeatureMap<T>() const {
    return {static_cast<T*>(data), n, h, w, c, pixel_stride};
  }
};

struct ImageBatch : Images<void> {
  int64_t device, element_bytes;

  ImageBatch(Address data, int64_t device, int64_t element_bytes, int64_t n, int64_t c, int64_t h, int64_t w,
             int64_t stride_n, int64_t stride_c, int64_t stride_h, int64_t stride_w)
      : Images<void>{pointer<void>(data), n, c, h, w, stride_n, stride_c, stride_h, stride_w},
        device(device),
        element_bytes(element_bytes) {}

  template <class T>
  operator Images<T>() const {
    return {static_cast<const T*>(data), n, c, h, w, stride_n, stride_c, stride_h, stride_w};
  }
};

struct Norm {
  Memory mean, scale, shift;

  template <class T>
  operator ladderseg::Norm<T>() const {
    return {mean, scale, shift};
  }
};

// A batch norm to prepare: see ladderseg/prepare_norms.h.
struct RunningNorm {
  int64_t channels;
  Memory running_mean, running_variance, gamma, beta;
  double epsilon;
  Memory norm, invstd;
};

struct Sums {
  Memory masked, centred;

  operator BnSums() const { return {masked, centred}; }
};

// A weight [outputs, channels, taps] to prepare: see ladderseg/prepare_weights.h.
struct Weight {
  Memory source;
  bool real;
  int64_t stride, outputs, channels, taps;
  WeightForm form;
  Memory prepared;
};

struct Correction {
  Map input;
  Memory mean, constant, slope;
};

struct Gradient {
  Map grad;
  Correction correction;

  template <class T>
  operator ladderseg::Gradient<T>() const {
    return {grad, correction.input, correction.mean, correction.constant, correction.slope};
  }
};

}  // namespace ladderseg::bindings

namespace pybind11::detail {

template <>
struct type_caster<ladderseg::bindings::Memory> {
  PYBIND11_TYPE_CASTER(ladderseg::bindings::Memory, const_name("tuple[int, int, int] | None"));

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
