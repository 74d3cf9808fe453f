// The elementwise part of every BN-ReLU backward, and the sums that it collects.
#pragma once

#include "parallel.h"
#include "scratch.h"
#include "simd.h"

namespace ladderseg {
namespace LADDERSEG_ISA {

// One member's sums. Sums of a few pixels are in T (`masked`, `centred`), and are flushed into the totals in double.
template <class T>
struct BnSumsScratch {
  Region<T> masked, centred;
  Region<double> total_masked, total_centred;

  LADDERSEG_INLINE BnSumsScratch(ScratchLayout& layout, int64_t channels)
      : masked(layout.add<T>(channels)),
        centred(layout.add<T>(channels)),
        total_masked(layout.add<double>(channels)),
        total_centred(layout.add<double>(channels)) {}

  LADDERSEG_INLINE void start(char* base, int64_t channels) const {
    for (int64_t c = 0; c < channels; ++c) {
      masked.in(base)[c] = centred.in(base)[c] = T(0);
      total_masked.in(base)[c] = total_centred.in(base)[c] = 0.0;
    }
  }

  LADDERSEG_INLINE void flush(char* base, int64_t channels) const {
    T* m = masked.in(base);
    T* d = centred.in(base);
    double* total_m = total_masked.in(base);
    double* total_d = total_centred.in(base);
    for (int64_t c = 0; c < channels; ++c) {
      total_m[c] += static_cast<double>(m[c]);
      total_d[c] += static_cast<double>(d[c]);
      m[c] = d[c] = T(0);
    }
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

// Backward of BN-ReLU at one pixel: grad_input (+)= scale * m; adds m and m * (x - mean) to the sums.
template <bool accumulate, class T>
LADDERSEG_INLINE void bn_relu_backward_pixel(int64_t channels, const T* __restrict x, const T* grad_output, T factor,
                                             const Norm<T>& norm, T* grad_input, T* __restrict masked,
                                             T* __restrict centred) {
  const T* __restrict mean = norm.mean;
  const T* __restrict scale = norm.scale;
  const T* __restrict shift = norm.shift;
#pragma GCC ivdep
  for (int64_t c = 0; c < channels; ++c) {
    const T d = x[c] - mean[c];
    const T m = relu_mask(d * scale[c] + shift[c], grad_output[c] * factor);
    grad_input[c] = (accumulate ? grad_input[c] : T(0)) + scale[c] * m;
    masked[c] += m;
    centred[c] += m * d;
  }
}

// One pixel of BN-ReLU.
template <class T>
LADDERSEG_INLINE void bn_relu_pixel(int64_t channels, const T* __restrict x, const Norm<T>& norm, T* __restrict y) {
  const T* __restrict mean = norm.mean;
  const T* __restrict scale = norm.scale;
  const T* __restrict shift = norm.shift;
  for (int64_t c = 0; c < channels; ++c) y[c] = relu((x[c] - mean[c]) * scale[c] + shift[c]);
}

}  // namespace LADDERSEG_ISA
}  // namespace ladderseg
