// Vectors of this compilation's instruction set, by the compiler's vector extension.
#pragma once

#if defined(__AVX512BF16__)
#include <immintrin.h>
#endif

#include <cstdint>
#include <cstring>
#include <type_traits>

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

// Elements of bfloat16 are widened when they are read.
template <>
struct Simd<BFloat16> : Simd<float> {};

template <class T>
LADDERSEG_INLINE typename Simd<T>::Vector load(const T* from) {
  return *reinterpret_cast<const typename Simd<T>::Unaligned*>(from);
}

template <class T>
LADDERSEG_INLINE void store(T* to, typename Simd<T>::Vector value) {
  *reinterpret_cast<typename Simd<T>::Unaligned*>(to) = value;
}

// Writes one element, rounded to T.
template <class T>
LADDERSEG_INLINE void put(T& to, T value) {
  to = value;
}

#if defined(__AVX512BF16__)
LADDERSEG_INLINE Simd<float>::Vector load(const BFloat16* from) {
  const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from));
  return reinterpret_cast<Simd<float>::Vector>(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
}

// Rounds to the nearest, ties to even; numbers too small for a normalised float become zero.
LADDERSEG_INLINE void store(BFloat16* to, Simd<float>::Vector value) {
  const __m256bh rounded = _mm512_cvtneps_pbh(reinterpret_cast<__m512>(value));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), reinterpret_cast<__m256i>(rounded));
}

// to[2 * j] = first[j] and to[2 * j + 1] = second[j], rounded, of whole vectors or halves of them.
LADDERSEG_INLINE void store_pairs(BFloat16* to, Simd<float>::Vector first, Simd<float>::Vector second) {
  const auto widened = [](Simd<float>::Vector value) {
    return _mm512_cvtepu16_epi32(reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(reinterpret_cast<__m512>(value))));
  };
  _mm512_storeu_si512(to, _mm512_or_si512(widened(first), _mm512_slli_epi32(widened(second), 16)));
}

typedef float HalfVector __attribute__((vector_size(LADDERSEG_VECTOR_BYTES / 2)));
LADDERSEG_INLINE void store_pairs(BFloat16* to, HalfVector first, HalfVector second) {
  const auto widened = [](HalfVector value) {
    return _mm256_cvtepu16_epi32(reinterpret_cast<__m128i>(_mm256_cvtneps_pbh(reinterpret_cast<__m256>(value))));
  };
  const __m256i pairs = _mm256_or_si256(widened(first), _mm256_slli_epi32(widened(second), 16));
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), pairs);
}

LADDERSEG_INLINE void put(BFloat16& to, float value) {
  const __m128bh rounded = _mm_cvtneps_pbh(_mm_set_ss(value));
  to.bits = static_cast<uint16_t>(_mm_cvtsi128_si32(reinterpret_cast<__m128i>(rounded)));
}
#endif

// Elements from memory as V, a Vector or a single number, so that the same code serves whole vectors and the remainder.
template <class V, class T>
LADDERSEG_INLINE V load_as(const T* from) {
  if constexpr (sizeof(V) == sizeof(RealOf<T>))
    return *from;
  else
    return load(from);
}

template <class V, class T>
LADDERSEG_INLINE void store_as(T* to, V value) {
  if constexpr (sizeof(V) == sizeof(RealOf<T>))
    put(*to, value);
  else
    store(to, value);
}

// Numbers of another floating-point type as V, a vector of doubles or a double.
template <class V, class R>
LADDERSEG_INLINE V load_widened(const R* from) {
  if constexpr (sizeof(V) == sizeof(double)) {
    return static_cast<double>(*from);
  } else {
    typedef R Stored __attribute__((vector_size(Simd<double>::lanes * sizeof(R)), aligned(sizeof(R)), may_alias));
    return __builtin_convertvector(*reinterpret_cast<const Stored*>(from), V);
  }
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
  for (; c < channels; ++c) body(c, RealOf<T>{});
}

// Copies elements of a map, rounding or widening them if the result is of another type.
template <class T, class Result>
LADDERSEG_INLINE void copy_elements(const T* __restrict from, int64_t count, Result* __restrict to) {
  if constexpr (std::is_same_v<T, Result>)
    std::memcpy(to, from, count * sizeof(T));
  else
    for_each_channel_vector<T>(count, [&](int64_t c, auto zero) {
      using V = decltype(zero);
      store_as<V>(to + c, load_as<V>(from + c));
    });
}

// to[i] += weight * from[i]
template <class T>
LADDERSEG_INLINE void add_scaled(int64_t count, RealOf<T> weight, const T* from, RealOf<T>* to) {
  for_each_channel_vector<T>(count, [&](int64_t i, auto zero) {
    using V = decltype(zero);
    store_as<V>(to + i, load_as<V>(to + i) + weight * load_as<V>(from + i));
  });
}

}  // namespace LADDERSEG_ISA
}  // namespace ladderseg
