// Vectors of this compilation's instruction set, by the compiler's vector extension.
#pragma once

#include <cstdint>

#include "ladderseg/feature_map.h"

namespace ladderseg {
namespace LADDERSEG_ISA {

template <class T>
struct Simd {
  static constexpr int lanes = LADDERSEG_VECTOR_BYTES / sizeof(T);
  typedef T Vector __attribute__((vector_size(LADDERSEG_VECTOR_BYTES)));
  // The same in memory: aligned like its elements, and allowed to alias them.
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

// Elements from memory as V, a Vector or a single T, so that the same code serves whole vectors and the remainder.
template <class V, class T>
LADDERSEG_INLINE V load_as(const T* from) {
  if constexpr (sizeof(V) == sizeof(T))
    return *from;
  else
    return load(from);
}

template <class V, class T>
LADDERSEG_INLINE void store_as(T* to, V value) {
  if constexpr (sizeof(V) == sizeof(T))
    *to = value;
  else
    store(to, value);
}

template <class T>
LADDERSEG_INLINE T smaller(T a, T b) {
  return b < a ? b : a;
}

template <class T>
LADDERSEG_INLINE T round_up(T value, T multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

// relu that passes NaN, like torch's. V is a number or a vector, here and below.
template <class V>
LADDERSEG_INLINE V relu(V value) {
  const V zero = {};
  return value <= zero ? zero : value;
}

// The gradient that passes a relu whose output is `y`: torch masks where y <= 0, so a NaN passes it.
template <class V>
LADDERSEG_INLINE V relu_mask(V y, V grad) {
  const V zero = {};
  return y <= zero ? zero : grad;
}

// Calls body(c, V{}) for all channels: a vector at a time, then the rest one by one.
template <class T, class Body>
LADDERSEG_INLINE void for_each_channel_vector(int64_t channels, const Body& body) {
  constexpr int64_t lanes = Simd<T>::lanes;
  int64_t c = 0;
  for (; c + lanes <= channels; c += lanes) body(c, typename Simd<T>::Vector{});
  for (; c < channels; ++c) body(c, T{});
}

}  // namespace LADDERSEG_ISA
}  // namespace ladderseg
