// exp() of a vector of nonpositive numbers, for softmax.
#pragma once

#include <cmath>
#include <cstdint>

#include "simd.h"

namespace ladderseg {
namespace LADDERSEG_ISA {

// float: x = n ln2 + r with |r| <= ln2 / 2; exp(r) by its Taylor polynomial of degree 7 (relative error below 6e-9
// on that interval), times 2^n through the exponent bits. Below -87, where the result would be denormal, it is 0.
// NaN stays NaN.
LADDERSEG_INLINE Simd<float>::Vector exp_nonpositive(Simd<float>::Vector x) {
  // Unsigned: lanes that underflow may wrap.
  typedef uint32_t Bits __attribute__((vector_size(LADDERSEG_VECTOR_BYTES)));
  const Simd<float>::Vector zero = {};
  const Simd<float>::Vector magic = zero + 12582912.0f;  // 1.5 * 2^23: adding it rounds to an integer
  const Bits underflow = (Bits)(x < -87.0f);
  const Simd<float>::Vector shifted = x * 1.44269504f + magic;
  const Simd<float>::Vector n = shifted - magic;
  const Simd<float>::Vector r = (x - n * 0.693145752f) - n * 1.42860677e-6f;
  Simd<float>::Vector p = zero + 1.0f / 5040.0f;
  p = p * r + 1.0f / 720.0f;
  p = p * r + 1.0f / 120.0f;
  p = p * r + 1.0f / 24.0f;
  p = p * r + 1.0f / 6.0f;
  p = p * r + 0.5f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  const Bits exponent = ((Bits)shifted - (Bits)magic) << 23;
  const Simd<float>::Vector kept = (Simd<float>::Vector)(((Bits)p + exponent) & ~underflow);
  return x == x ? kept : x;
}

// double: element by element; the double path is for checking gradients.
LADDERSEG_INLINE Simd<double>::Vector exp_nonpositive(Simd<double>::Vector x) {
  Simd<double>::Vector result = {};
  for (int i = 0; i < Simd<double>::lanes; ++i) result[i] = std::exp(x[i]);
  return result;
}

}  // namespace LADDERSEG_ISA
}  // namespace ladderseg
