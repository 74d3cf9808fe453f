// Vectors of the instruction set that this file is compiled for, by the compiler's vector extension.
#pragma once

#include <cstdint>

#include "ladderseg/feature_map.h"

namespace ladderseg {
namespace LADDERSEG_ISA {

template <class T>
struct Simd {
  static constexpr int lanes = LADDERSEG_VECTOR_BYTES / sizeof(T);
  typedef T Vector __attribute__((vector_size(LADDERSEG_VECTOR_BYTES)));
  // The same in memory: aligned as its elements are, and allowed to alias them.
  typedef T Unaligned __attribute__((vector_size(LADDERSEG_VECTOR_BYTES), aligned(sizeof(T)), may_alias));
};

template <class T>
LADDERSEG_INLINE typename Simd<T>::Vector load(const T* from) {
  return *reinterpret_cast<const typename Simd<T>::Unaligned*>(from);
}

template <class T>
LADDERSEG_INLINE void store(T* to, typename Simd<T>::Vector value) {
  *reinterpret_cast<typename Simd<T>::Unaligned*>(to) = value;
}

template <class T>
LADDERSEG_INLINE T smaller(T a, T b) {
  return b < a ? b : a;
}

template <class T>
LADDERSEG_INLINE T round_up(T value, T multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

// relu that lets NaN through, as torch's does.
template <class T>
LADDERSEG_INLINE T relu(T value) {
  return value <= T(0) ? T(0) : value;
}

// The gradient that passes a relu whose output is `y`: torch masks where y <= 0, so a NaN passes it.
template <class T>
LADDERSEG_INLINE T relu_mask(T y, T grad) {
  return y <= T(0) ? T(0) : grad;
}

}  // namespace LADDERSEG_ISA
}  // namespace ladderseg
