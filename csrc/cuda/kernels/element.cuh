// The element type of a compilation, and how its values are read, written and computed with.
//
// Each .cu file is compiled once per element type, chosen by one of the macros LADDERSEG_ELEMENT_*. It includes no CUDA
// header, so NVRTC needs only these files: conversions are PTX instructions.
#pragma once

#include "arguments.h"

#if defined(LADDERSEG_ELEMENT_float32)
#define LADDERSEG_KERNEL(name) name##_float32
#elif defined(LADDERSEG_ELEMENT_float64)
#define LADDERSEG_KERNEL(name) name##_float64
#elif defined(LADDERSEG_ELEMENT_float16)
#define LADDERSEG_KERNEL(name) name##_float16
#elif defined(LADDERSEG_ELEMENT_bfloat16)
#define LADDERSEG_KERNEL(name) name##_bfloat16
#else
#error no LADDERSEG_ELEMENT_* is defined
#endif

#define LADDERSEG_DEVICE __device__ __forceinline__

namespace ladderseg::cuda {

struct Float16 {
  unsigned short bits;
};
struct Bfloat16 {
  unsigned short bits;
};

#if defined(LADDERSEG_ELEMENT_float32)
using Element = float;
using Real = float;
#elif defined(LADDERSEG_ELEMENT_float64)
using Element = double;
using Real = double;
#elif defined(LADDERSEG_ELEMENT_float16)
using Element = Float16;
using Real = float;
#else
using Element = Bfloat16;
using Real = float;
#endif

LADDERSEG_DEVICE float to_real(float x) { return x; }
LADDERSEG_DEVICE double to_real(double x) { return x; }
LADDERSEG_DEVICE float to_real(Float16 x) {
  float result;
  asm("cvt.f32.f16 %0, %1;" : "=f"(result) : "h"(x.bits));
  return result;
}
LADDERSEG_DEVICE float to_real(Bfloat16 x) { return __uint_as_float(static_cast<unsigned>(x.bits) << 16); }

// Rounded to the nearest, ties to even.
LADDERSEG_DEVICE void from_real(float x, float& to) { to = x; }
LADDERSEG_DEVICE void from_real(double x, double& to) { to = x; }
LADDERSEG_DEVICE void from_real(float x, Float16& to) { asm("cvt.rn.f16.f32 %0, %1;" : "=h"(to.bits) : "f"(x)); }
LADDERSEG_DEVICE void from_real(float x, Bfloat16& to) {
#if __CUDA_ARCH__ >= 800
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(to.bits) : "f"(x));
#else
  const unsigned bits = __float_as_uint(x);
  const bool nan = (bits & 0x7fffffffu) > 0x7f800000u;
  to.bits = static_cast<unsigned short>(nan ? 0x7fffu : (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
#endif
}
LADDERSEG_DEVICE Element to_element(Real x) {
  Element result;
  from_real(x, result);
  return result;
}
// The value after a round trip through memory.
LADDERSEG_DEVICE Real rounded(Real x) { return to_real(to_element(x)); }

// relu((x - mean) * scale + shift) before the relu. NaN is kept by the comparisons below, as in torch.
LADDERSEG_DEVICE Real normalised(Real x, Real mean, Real scale, Real shift) { return (x - mean) * scale + shift; }
LADDERSEG_DEVICE Real rectified(Real y) { return y <= Real(0) ? Real(0) : y; }
// The gradient of y from the gradient of relu(y).
LADDERSEG_DEVICE Real masked(Real y, Real grad) { return y <= Real(0) ? Real(0) : grad; }

// `width` neighbouring channels of a pixel.
template <int width>
struct Pack {
  Real values[width];
};

// Channels in one access of 16 bytes.
constexpr int kWide = 16 / sizeof(Element);

template <int width>
LADDERSEG_DEVICE Pack<width> load(const Element* from) {
  Pack<width> pack;
  if constexpr (width == 1) {
    pack.values[0] = to_real(*from);
  } else {
    static_assert(width == kWide, "one element, or 16 bytes");
    union {
      uint4 words;
      Element elements[width];
    } both;
    both.words = *reinterpret_cast<const uint4*>(from);
#pragma unroll
    for (int i = 0; i < width; ++i) pack.values[i] = to_real(both.elements[i]);
  }
  return pack;
}

template <int width>
LADDERSEG_DEVICE void store(Element* to, const Pack<width>& pack) {
  if constexpr (width == 1) {
    *to = to_element(pack.values[0]);
  } else {
    static_assert(width == kWide, "one element, or 16 bytes");
    union {
      uint4 words;
      Element elements[width];
    } both;
#pragma unroll
    for (int i = 0; i < width; ++i) both.elements[i] = to_element(pack.values[i]);
    *reinterpret_cast<uint4*>(to) = both.words;
  }
}

template <int width>
LADDERSEG_DEVICE Pack<width> load_vector(const Real* from) {
  Pack<width> pack;
#pragma unroll
  for (int i = 0; i < width; ++i) pack.values[i] = from[i];
  return pack;
}

LADDERSEG_DEVICE int64 smaller(int64 a, int64 b) { return a < b ? a : b; }

}  // namespace ladderseg::cuda
