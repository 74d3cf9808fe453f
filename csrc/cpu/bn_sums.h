// The elementwise part of every BN-ReLU backward, and the sums that it collects.
#pragma once

#include <cstring>

#include "parallel.h"
#include "scratch.h"
#include "simd.h"

namespace ladderseg {
namespace LADDERSEG_ISA {

// One member's sums. Sums of a few pixels are in T (`masked`, `centred`), and are flushed into the totals in double.
template <class T>
struct BnSumsScratch {
  using Real = RealOf<T>;
  Region<Real> masked, centred;
  Region<double> total_masked, total_centred;

  LADDERSEG_INLINE BnSumsScratch(ScratchLayout& layout, int64_t channels)
      : masked(layout.add<Real>(channels)),
        centred(layout.add<Real>(channels)),
        total_masked(layout.add<double>(channels)),
        total_centred(layout.add<double>(channels)) {}

  LADDERSEG_INLINE void start(char* base, int64_t channels) const {
    for (int64_t c = 0; c < channels; ++c) {
      masked.in(base)[c] = centred.in(base)[c] = Real(0);
      total_masked.in(base)[c] = total_centred.in(base)[c] = 0.0;
    }
  }

  LADDERSEG_INLINE void flush(char* base, int64_t channels) const {
    Real* m = masked.in(base);
    Real* d = centred.in(base);
    double* total_m = total_masked.in(base);
    double* total_d = total_centred.in(base);
    for_each_channel_vector<double>(channels, [&](int64_t c, auto zero) {
      using V = decltype(zero);
      store_as<V>(total_m + c, load_as<V>(total_m + c) + load_widened<V>(m + c));
      store_as<V>(total_d + c, load_as<V>(total_d + c) + load_widened<V>(d + c));
    });
    std::memset(m, 0, channels * sizeof(Real));
    std::memset(d, 0, channels * sizeof(Real));
  }

  // Adds the members' totals in their order; one member calls it, after a barrier.
  template <class MemberBase>
  LADDERSEG_INLINE void finish(int team, const MemberBase& base_of, int64_t channels, const BnSums& sums) const {
    for (int64_t c = 0; c < channels; ++c) sums.masked[c] = sums.centred[c] = 0.0;
    for (int member = 0; member < team; ++member) {
      const double* m = total_masked.in(base_of(member));
      const double* d = total_centred.in(base_of(member));
      for (int64_t c = 0; c < channels; ++c) {
        sums.masked[c] += m[c];
        sums.centred[c] += d[c];
      }
    }
  }
};

// Backward of BN-ReLU at one pixel: grad_input (+)= scale * m; adds m and m * (x - mean) to the sums. grad_output is of
// the map's elements or of real numbers, and may be grad_input.
template <bool accumulate, class T, class G>
LADDERSEG_INLINE void bn_relu_backward_pixel(int64_t channels, const T* x, const G* grad_output, RealOf<T> factor,
                                             const Norm<RealOf<T>>& norm, T* grad_input, RealOf<T>* masked,
                                             RealOf<T>* centred) {
  for_each_channel_vector<T>(channels, [&](int64_t c, auto zero) {
    using V = decltype(zero);
    const V scale = load_as<V>(norm.scale + c), d = load_as<V>(x + c) - load_as<V>(norm.mean + c);
    const V m = relu_mask(d * scale + load_as<V>(norm.shift + c), load_as<V>(grad_output + c) * factor);
    V result = scale * m;
    if constexpr (accumulate) result = result + load_as<V>(grad_input + c);
    store_as<V>(grad_input + c, result);
    store_as<V>(masked + c, load_as<V>(masked + c) + m);
    store_as<V>(centred + c, load_as<V>(centred + c) + m * d);
  });
}

// One pixel of BN-ReLU.
template <class T>
LADDERSEG_INLINE void bn_relu_pixel(int64_t channels, const T* x, const Norm<RealOf<T>>& norm, T* y) {
  for_each_channel_vector<T>(channels, [&](int64_t c, auto zero) {
    using V = decltype(zero);
    const V d = load_as<V>(x + c) - load_as<V>(norm.mean + c);
    store_as<V>(y + c, relu(d * load_as<V>(norm.scale + c) + load_as<V>(norm.shift + c)));
  });
}

}  // namespace LADDERSEG_ISA
}  // namespace ladderseg
