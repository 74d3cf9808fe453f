// What every operator's arguments are made of: plain structs of pointers and sizes.
#pragma once

#include <cstdint>

#define LADDERSEG_INLINE inline __attribute__((always_inline))

namespace ladderseg {

// A feature map in pixel-major order (channels_last in torch): the channels of a pixel are contiguous, and
// from pixel to pixel, in the order n, y, x, it is `pixel_stride` elements. So a range of channels of a
// wider map is a FeatureMap too.
template <class T>
struct FeatureMap {
  T* data;  // nullptr: an optional output that is not wanted
  int64_t n, h, w, c;
  int64_t pixel_stride;

  LADDERSEG_INLINE int64_t pixels() const { return n * h * w; }
  LADDERSEG_INLINE T* pixel(int64_t p) const { return data + p * pixel_stride; }
  LADDERSEG_INLINE T* at(int64_t image, int64_t y, int64_t x) const {
    return data + ((image * h + y) * w + x) * pixel_stride;
  }
};

// Batch normalisation and rectification, per channel:
//
//   y = relu((x - mean) * scale + shift),   scale = gamma / sqrt(variance + eps),   shift = beta
template <class T>
struct BnRelu {
  const T* mean;   // [C]
  const T* scale;  // [C]
  const T* shift;  // [C]
};

// The gradient of a map whose batch norms have deferred their correction (ALGORITHMS.md section 4):
//
//   grad[p, c] - constant[c] - slope[c] * (x[p, c] - mean[c])
template <class T>
struct CorrectedGradient {
  FeatureMap<const T> grad;   // [P, C]
  FeatureMap<const T> input;  // x [P, C], or no data: nothing is to be corrected
  const T* mean;              // [C], like the following unused without x
  const T* constant;          // [C]
  const T* slope;             // [C]
};

// The two sums over all positions that a batch norm's backward needs (ALGORITHMS.md section 4); with g the
// gradient of y and m = g where y > 0, else 0:
//
//   masked = sum(m),   centred = sum(m * (x - mean))
struct BnSums {
  double* masked;   // [C], overwritten
  double* centred;  // [C], overwritten
};

}  // namespace ladderseg
