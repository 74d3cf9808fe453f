// What Python passes: numbers and addresses, and the core's structs made of them.
//
// A map is passed as FeatureMap(pointer, n, h, w, c, pixel_stride), a vector as its address; 0 means "not wanted".
#pragma once

#include <cstdint>

#include "ladderseg/kernels.h"

namespace ladderseg {

using Address = uintptr_t;

struct Map {
  Address data;
  int64_t n, h, w, c, pixel_stride;

  template <class T>
  operator FeatureMap<T>() const {
    return {reinterpret_cast<T*>(data), n, h, w, c, pixel_stride};
  }
};

struct ImageBatch {
  Address data;
  int64_t n, c, h, w, stride_n, stride_c, stride_h, stride_w;

  template <class T>
  operator Images<T>() const {
    return {reinterpret_cast<const T*>(data), n, c, h, w, stride_n, stride_c, stride_h, stride_w};
  }
};

struct Norm {
  Address mean, scale, shift;

  template <class T>
  operator BnRelu<T>() const {
    return {reinterpret_cast<const T*>(mean), reinterpret_cast<const T*>(scale), reinterpret_cast<const T*>(shift)};
  }
};

struct Sums {
  Address masked, centred;

  operator BnSums() const { return {reinterpret_cast<double*>(masked), reinterpret_cast<double*>(centred)}; }
};

struct Correction {
  Map input;
  Address mean, constant, slope;
};

struct Gradient {
  Map grad;
  Correction correction;

  template <class T>
  operator CorrectedGradient<T>() const {
    return {grad, correction.input, reinterpret_cast<const T*>(correction.mean),
            reinterpret_cast<const T*>(correction.constant), reinterpret_cast<const T*>(correction.slope)};
  }
};

template <class T>
T* pointer(Address address) {
  return reinterpret_cast<T*>(address);
}

}  // namespace ladderseg
