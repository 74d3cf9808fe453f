// A thread's data of its channels: their batch norm, and the sums of its backward.
#pragma once

#include "element.cuh"

namespace ladderseg::cuda {

// The norm of `count` neighbouring channels.
template <int count>
struct ChannelNorm {
  Real mean[count] = {}, scale[count] = {}, shift[count] = {};

  ChannelNorm() = default;

  // The norm of the channels from c on.
  LADDERSEG_DEVICE ChannelNorm(const Norm<Real>& norm, int64 c) {
#pragma unroll
    for (int i = 0; i < count; ++i) mean[i] = norm.mean[c + i];
#pragma unroll
    for (int i = 0; i < count; ++i) scale[i] = norm.scale[c + i];
#pragma unroll
    for (int i = 0; i < count; ++i) shift[i] = norm.shift[c + i];
  }

  // The norm of the channels from c on, of which `left` exist; it is zero for the others.
  LADDERSEG_DEVICE ChannelNorm(const Norm<Real>& norm, int c, int left) {
#pragma unroll
    for (int i = 0; i < count; ++i) {
      const bool there = i < left;
      mean[i] = there ? norm.mean[c + i] : Real(0);
      scale[i] = there ? norm.scale[c + i] : Real(0);
      shift[i] = there ? norm.shift[c + i] : Real(0);
    }
  }

  // The norm of the channels from c on, where all vectors are aligned as load_vector wants it.
  LADDERSEG_DEVICE static ChannelNorm aligned(const Norm<Real>& norm, int c) {
    const Pack<count> mean = load_vector<count, true>(norm.mean + c);
    const Pack<count> scale = load_vector<count, true>(norm.scale + c);
    const Pack<count> shift = load_vector<count, true>(norm.shift + c);
    ChannelNorm result;
#pragma unroll
    for (int i = 0; i < count; ++i) {
      result.mean[i] = mean.values[i];
      result.scale[i] = scale.values[i];
      result.shift[i] = shift.values[i];
    }
    return result;
  }

  // The value before the relu, in channel i.
  LADDERSEG_DEVICE Real operator()(Real x, int i) const { return normalised(x, mean[i], scale[i], shift[i]); }
};

// The sums of ladderseg::BnSums over a thread's pixels.
template <int count>
struct ChannelSums {
  Real masked[count] = {}, centred[count] = {};

  // Adds one pixel's channel i, from its x and the gradient of its y. Returns the gradient of x.
  LADDERSEG_DEVICE Real add(const ChannelNorm<count>& norm, int i, Real x, Real grad) {
    const Real m = ladderseg::cuda::masked(norm(x, i), grad);
    masked[i] += m;
    centred[i] += m * (x - norm.mean[i]);
    return norm.scale[i] * m;
  }
};

}  // namespace ladderseg::cuda
