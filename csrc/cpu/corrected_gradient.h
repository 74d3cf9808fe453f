// The deferred batch norm correction at one pixel.
#pragma once

#include "simd.h"

namespace ladderseg {
namespace LADDERSEG_ISA {

// Writes the first `channels` of pixel p of a gradient that has an input, in T or its type of arithmetic; `to` may be
// the gradient's own pixel.
template <class T, class Result>
LADDERSEG_INLINE void corrected_pixel(const Gradient<T>& gradient, int64_t p, int64_t channels, Result* to) {
  const T* const grad = gradient.grad.pixel(p);
  const T* const x = gradient.input.pixel(p);
  for_each_channel_vector<T>(channels, [&](int64_t c, auto zero) {
    using V = decltype(zero);
    const V d = load_as<V>(x + c) - load_as<V>(gradient.mean + c);
    store_as<V>(to + c, load_as<V>(grad + c) - load_as<V>(gradient.constant + c) - load_as<V>(gradient.slope + c) * d);
  });
}

// The same for any gradient, corrected or not.
template <class T, class Result>
LADDERSEG_INLINE void gradient_pixel(const Gradient<T>& gradient, int64_t p, int64_t channels, Result* to) {
  if (gradient.input.data)
    corrected_pixel(gradient, p, channels, to);
  else
    copy_elements(gradient.grad.pixel(p), channels, to);
}

}  // namespace LADDERSEG_ISA
}  // namespace ladderseg
