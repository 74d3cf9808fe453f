// The parts of every operator's arguments: plain structs of pointers and sizes.
//
// Host code and CUDA kernels share this header; compilers of device code have no host headers.
#pragma once

#if defined(__CUDACC__)
#define LADDERSEG_INLINE __device__ __forceinline__
namespace ladderseg {
using int64 = long long;
}
#else
#include <cstdint>
#include <cstring>
#define LADDERSEG_INLINE inline __attribute__((always_inline))
namespace ladderseg {
using int64 = int64_t;
}
#endif

namespace ladderseg {

// The type of arithmetic on maps of T, and of the vectors and weight gradients beside them.
template <class T>
struct Arithmetic {
  using Real = T;
};
template <class T>
using RealOf = typename Arithmetic<T>::Real;

#if !defined(__CUDACC__)
// An element of maps and weights of 16 bits: the upper half of a float. It is made only by rounding (cpu/simd.h).
struct BFloat16 {
  uint16_t bits;

  LADDERSEG_INLINE operator float() const {
    const uint32_t wide = static_cast<uint32_t>(bits) << 16;
    float value;
    std::memcpy(&value, &wide, sizeof(value));
    return value;
  }
};

template <>
struct Arithmetic<BFloat16> {
  using Real = float;
};
#endif

// A feature map in pixel-major order (channels_last in torch): the channels of a pixel are contiguous, and pixels, in
// the order n, y, x, are `pixel_stride` elements apart. So a range of channels of a wider map is a FeatureMap too.
template <class T>
struct FeatureMap {
  T* data;  // nullptr: an optional output that is not wanted
  int64 n, h, w, c;
  int64 pixel_stride;

  LADDERSEG_INLINE int64 pixels() const { return n * h * w; }
  LADDERSEG_INLINE T* pixel(int64 p) const { return data + p * pixel_stride; }
  LADDERSEG_INLINE T* at(int64 image, int64 y, int64 x) const {
    return data + ((image * h + y) * w + x) * pixel_stride;
  }
};

// Batch normalisation and rectification, per channel:
//
//   y = relu((x - mean) * scale + shift),   scale = gamma / sqrt(variance + eps),   shift = beta
template <class R>
struct Norm {
  const R* mean;   // [C]
  const R* scale;  // [C]
  const R* shift;  // [C]
};

// The gradient of a map whose batch norms have deferred their correction (ALGORITHMS.md section 4):
//
//   grad[p, c] - constant[c] - slope[c] * (x[p, c] - mean[c])
template <class T, class R = RealOf<T>>
struct Gradient {
  FeatureMap<const T> grad;   // [P, C]
  FeatureMap<const T> input;  // x [P, C]; no data: no correction
  const R* mean;              // [C], unused without x, like the next two
  const R* constant;          // [C]
  const R* slope;             // [C]
};

// The two sums over all positions that a batch norm's backward needs (ALGORITHMS.md section 4). With g the gradient of
// y and m = g where y > 0, else 0:
//
//   masked = sum(m),   centred = sum(m * (x - mean))
struct BnSums {
  double* masked;   // [C], overwritten
  double* centred;  // [C], overwritten
};

}  // namespace ladderseg
