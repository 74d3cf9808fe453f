// Bilinear interpolation along one axis, as F.interpolate does it: with half-pixel centres, or with the first and the
// last positions of both sizes aligned (align_corners=True).
#pragma once

#include "scratch.h"
#include "simd.h"

namespace ladderseg {
namespace LADDERSEG_ISA {

// Output position `i` reads coarse positions lower[i] and upper[i], weighted 1 - weight[i] and weight[i].
template <class T>
struct BilinearAxis {
  const int64_t* lower;
  const int64_t* upper;
  const T* weight;
};

template <class T>
struct BilinearAxisScratch {
  Region<int64_t> lower, upper;
  Region<T> weight;

  LADDERSEG_INLINE BilinearAxisScratch(ScratchLayout& layout, int64_t fine)
      : lower(layout.add<int64_t>(fine)), upper(layout.add<int64_t>(fine)), weight(layout.add<T>(fine)) {}

  LADDERSEG_INLINE BilinearAxis<T> fill(char* base, int64_t coarse, int64_t fine, bool align_corners = false) const {
    const T ratio = align_corners ? fine > 1 ? static_cast<T>(coarse - 1) / static_cast<T>(fine - 1) : T(0)
                                  : static_cast<T>(coarse) / static_cast<T>(fine);
    const T centre = align_corners ? T(0) : T(0.5);
    for (int64_t i = 0; i < fine; ++i) {
      T source = ratio * (static_cast<T>(i) + centre) - centre;
      if (source < T(0)) source = T(0);
      const int64_t below = smaller(static_cast<int64_t>(source), coarse - 1);
      T weight = source - static_cast<T>(below);
      if (weight > T(1)) weight = T(1);
      lower.in(base)[i] = below;
      upper.in(base)[i] = smaller(below + 1, coarse - 1);
      this->weight.in(base)[i] = weight;
    }
    return {lower.in(base), upper.in(base), weight.in(base)};
  }
};

// to[i] = (1 - weight) * a[i] + weight * b[i]
template <class T>
LADDERSEG_INLINE void blend(int64_t count, const T* __restrict a, const T* __restrict b, T weight, T* __restrict to) {
  const T rest = T(1) - weight;
  for (int64_t i = 0; i < count; ++i) to[i] = rest * a[i] + weight * b[i];
}

// to[i] += weight * from[i]
template <class T>
LADDERSEG_INLINE void add_scaled(int64_t count, T weight, const T* __restrict from, T* __restrict to) {
  for (int64_t i = 0; i < count; ++i) to[i] += weight * from[i];
}

// One upsampled pixel, blended from its four coarse neighbours.
template <class T>
LADDERSEG_INLINE void upsample_pixel(const FeatureMap<const T>& coarse, int64_t image, int64_t y, int64_t x,
                                     const BilinearAxis<T>& vertical, const BilinearAxis<T>& horizontal,
                                     T* __restrict to) {
  const T* __restrict a = coarse.at(image, vertical.lower[y], horizontal.lower[x]);
  const T* __restrict b = coarse.at(image, vertical.lower[y], horizontal.upper[x]);
  const T* __restrict c = coarse.at(image, vertical.upper[y], horizontal.lower[x]);
  const T* __restrict d = coarse.at(image, vertical.upper[y], horizontal.upper[x]);
  const T down = vertical.weight[y], right = horizontal.weight[x];
  const T up = T(1) - down, left = T(1) - right;
  for (int64_t i = 0; i < coarse.c; ++i)
    to[i] = up * (left * a[i] + right * b[i]) + down * (left * c[i] + right * d[i]);
}

}  // namespace LADDERSEG_ISA
}  // namespace ladderseg
