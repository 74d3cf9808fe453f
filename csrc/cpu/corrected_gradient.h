// The deferred batch norm correction at one pixel.
#pragma once

#include <cstring>

#include "ladderseg/feature_map.h"

namespace ladderseg {
namespace LADDERSEG_ISA {

// Writes the first `channels` of pixel p of a gradient that has an input; `to` may be the gradient's own pixel.
template <class T>
LADDERSEG_INLINE void corrected_pixel(const Gradient<T>& gradient, int64_t p, int64_t channels, T* to) {
  const T* grad = gradient.grad.pixel(p);
  const T* x = gradient.input.pixel(p);
  const T* mean = gradient.mean;
  const T* constant = gradient.constant;
  const T* slope = gradient.slope;
#pragma GCC ivdep
  for (int64_t c = 0; c < channels; ++c) to[c] = grad[c] - constant[c] - slope[c] * (x[c] - mean[c]);
}

// The same for any gradient, corrected or not.
template <class T>
LADDERSEG_INLINE void gradient_pixel(const Gradient<T>& gradient, int64_t p, int64_t channels, T* __restrict to) {
  if (gradient.input.data)
    corrected_pixel(gradient, p, channels, to);
  else
    std::memcpy(to, gradient.grad.pixel(p), channels * sizeof(T));
}

}  // namespace LADDERSEG_ISA
}  // namespace ladderseg
