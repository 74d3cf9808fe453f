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
#if defined(LADDERSEG_ELEMENT_float16) || defined(LADDERSEG_ELEMENT_bfloat16)
// Two neighbouring elements in a word: fewer instructions than for one after the other.
LADDERSEG_DEVICE void to_reals(unsigned word, float& low, float& high) {
#if defined(LADDERSEG_ELEMENT_float16)
  asm("{\n.reg .b16 l, h;\nmov.b32 {l, h}, %2;\ncvt.f32.f16 %0, l;\ncvt.f32.f16 %1, h;\n}"
      : "=f"(low), "=f"(high)
      : "r"(word));
#else
  low = __uint_as_float(word << 16);
  high = __uint_as_float(word & 0xffff0000u);
#endif
}
LADDERSEG_DEVICE unsigned to_elements(float low, float high) {
#if __CUDA_ARCH__ >= 800
  unsigned word;
#if defined(LADDERSEG_ELEMENT_float16)
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(high), "f"(low));
#else
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(high), "f"(low));
#endif
  return word;
#else
  return to_element(low).bits | static_cast<unsigned>(to_element(high).bits) << 16;
#endif
}
#endif

// The value after a round trip through memory.
LADDERSEG_DEVICE Real rounded(Real x) { return to_real(to_element(x)); }

// relu((x - mean) * scale + shift) before the relu. NaN is kept by the comparisons below, as in torch.
LADDERSEG_DEVICE Real normalised(Real x, Real mean, Real scale, Real shift) { return (x - mean) * scale + shift; }
LADDERSEG_DEVICE double rectified(double y) { return y <= 0.0 ? 0.0 : y; }
LADDERSEG_DEVICE float rectified(float y) {
#if __CUDA_ARCH__ >= 800
  float result;  // in one instruction
  asm("max.NaN.f32 %0, %1, %2;" : "=f"(result) : "f"(y), "f"(0.0f));
  return result;
#else
  return y <= 0.0f ? 0.0f : y;
#endif
}
// The gradient of y from the gradient of relu(y).
LADDERSEG_DEVICE Real masked(Real y, Real grad) { return y <= Real(0) ? Real(0) : grad; }

// `width` neighbouring channels of a pixel.
template <int width>
struct Pack {
  Real values[width];
};

// Channels in one access of 16 bytes.
constexpr int kWide = 16 / sizeof(Element);

// `width` neighbouring channels of a pixel as they lie in memory, in Words of 8 or 16 bytes.
template <int width, class Words>
union Elements {
  static_assert(sizeof(Words) == width * sizeof(Element), "whole words");
  Words words;
  unsigned word[sizeof(Words) / 4];
  Element elements[width];
};
using Chunk = Elements<kWide, uint4>;

template <int width, class Words>
LADDERSEG_DEVICE Pack<width> unpack(const Elements<width, Words>& from) {
  Pack<width> pack;
#if defined(LADDERSEG_ELEMENT_float16) || defined(LADDERSEG_ELEMENT_bfloat16)
#pragma unroll
  for (int i = 0; i < width; i += 2) to_reals(from.word[i / 2], pack.values[i], pack.values[i + 1]);
#else
#pragma unroll
  for (int i = 0; i < width; ++i) pack.values[i] = to_real(from.elements[i]);
#endif
  return pack;
}

template <class Words = uint4, int width>
LADDERSEG_DEVICE Elements<width, Words> packed(const Pack<width>& pack) {
  Elements<width, Words> to;
#if defined(LADDERSEG_ELEMENT_float16) || defined(LADDERSEG_ELEMENT_bfloat16)
#pragma unroll
  for (int i = 0; i < width; i += 2) to.word[i / 2] = to_elements(pack.values[i], pack.values[i + 1]);
#else
#pragma unroll
  for (int i = 0; i < width; ++i) to.elements[i] = to_element(pack.values[i]);
#endif
  return to;
}

template <int width>
LADDERSEG_DEVICE Pack<width> load(const Element* from) {
  Pack<width> pack;
  if constexpr (width == 1) {
    pack.values[0] = to_real(*from);
  } else {
    static_assert(width == kWide, "one element, or 16 bytes");
    Chunk chunk;
    chunk.words = *reinterpret_cast<const uint4*>(from);
    pack = unpack(chunk);
  }
  return pack;
}

template <int width>
LADDERSEG_DEVICE void store(Element* to, const Pack<width>& pack) {
  if constexpr (width == 1) {
    *to = to_element(pack.values[0]);
  } else {
    static_assert(width == kWide, "one element, or 16 bytes");
    *reinterpret_cast<uint4*>(to) = packed(pack).words;
  }
}

// A vector's values of `width` channels; with `aligned`, they begin at a multiple of their size, or of 16 bytes.
template <int width, bool aligned = false>
LADDERSEG_DEVICE Pack<width> load_vector(const Real* from) {
  Pack<width> pack;
  if constexpr (aligned) {
    constexpr int kBytes = width * sizeof(Real) < 16 ? width * sizeof(Real) : 16, kPiece = kBytes / sizeof(Real);
    struct alignas(kBytes) Piece {
      Real values[kPiece];
    };
#pragma unroll
    for (int i = 0; i < width; i += kPiece) {
      const Piece piece = *reinterpret_cast<const Piece*>(from + i);
#pragma unroll
      for (int k = 0; k < kPiece; ++k) pack.values[i + k] = piece.values[k];
    }
  } else {
#pragma unroll
    for (int i = 0; i < width; ++i) pack.values[i] = from[i];
  }
  return pack;
}

LADDERSEG_DEVICE int64 smaller(int64 a, int64 b) { return a < b ? a : b; }

}  // namespace ladderseg::cuda
