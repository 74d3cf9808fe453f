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
  const RealOf<T>* weight;
};

template <class T>
struct BilinearAxisScratch {
  using Real = RealOf<T>;
  Region<int64_t> lower, upper;
  Region<Real> weight;

  LADDERSEG_INLINE BilinearAxisScratch(ScratchLayout& layout, int64_t fine)
      : lower(layout.add<int64_t>(fine)), upper(layout.add<int64_t>(fine)), weight(layout.add<Real>(fine)) {}

  LADDERSEG_INLINE BilinearAxis<T> fill(char* base, int64_t coarse, int64_t fine, bool align_corners = false) const {
    const Real ratio = align_corners ? fine > 1 ? static_cast<Real>(coarse - 1) / static_cast<Real>(fine - 1) : Real(0)
                                     : static_cast<Real>(coarse) / static_cast<Real>(fine);
    const Real centre = align_corners ? Real(0) : Real(0.5);
    for (int64_t i = 0; i < fine; ++i) {
      Real source = ratio * (static_cast<Real>(i) + centre) - centre;
      if (source < Real(0)) source = Real(0);
      const int64_t below = smaller(static_cast<int64_t>(source), coarse - 1);
      Real weight = source - static_cast<Real>(below);
      if (weight > Real(1)) weight = Real(1);
      lower.in(base)[i] = below;
      upper.in(base)[i] = smaller(below + 1, coarse - 1);
      this->weight.in(base)[i] = weight;
    }
    return {lower.in(base), upper.in(base), weight.in(base)};
  }
};

// to[i] = (1 - weight) * a[i] + weight * b[i]
template <class T>
LADDERSEG_INLINE void blend(int64_t count, const T* a, const T* b, RealOf<T> weight, RealOf<T>* to) {
  const RealOf<T> rest = RealOf<T>(1) - weight;
  for_each_channel_vector<T>(count, [&](int64_t i, auto zero) {
    using V = decltype(zero);
    store_as<V>(to + i, rest * load_as<V>(a + i) + weight * load_as<V>(b + i));
  });
}

// One upsampled pixel, blended from its four coarse neighbours.
template <class T>
LADDERSEG_INLINE void upsample_pixel(const FeatureMap<const T>& coarse, int64_t image, int64_t y, int64_t x,
                                     const BilinearAxis<T>& vertical, const BilinearAxis<T>& horizontal, T* to) {
  const T* const a = coarse.at(image, vertical.lower[y], horizontal.lower[x]);
  const T* const b = coarse.at(image, vertical.lower[y], horizontal.upper[x]);
  const T* const c = coarse.at(image, vertical.upper[y], horizontal.lower[x]);
  const T* const d = coarse.at(image, vertical.upper[y], horizontal.upper[x]);
  const RealOf<T> down = vertical.weight[y], right = horizontal.weight[x];
  const RealOf<T> up = RealOf<T>(1) - down, left = RealOf<T>(1) - right;
  for_each_channel_vector<T>(coarse.c, [&](int64_t i, auto zero) {
    using V = decltype(zero);
    const V upper = left * load_as<V>(a + i) + right * load_as<V>(b + i);
    const V lower = left * load_as<V>(c + i) + right * load_as<V>(d + i);
    store_as<V>(to + i, up * upper + down * lower);
  });
}

}  // namespace LADDERSEG_ISA
}  // namespace ladderseg
