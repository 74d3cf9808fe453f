// Batch norm's arithmetic on vectors, one number per channel: before the passes over a map, and after them.
#pragma once

#include "feature_map.h"

namespace ladderseg {

// Computes what kernels normalise with from mean and variance:
//
//   invstd = 1 / sqrt(variance + epsilon),   scale = gamma * invstd,   shift = beta
template <class T>
struct BatchNormForward {
  int64_t channels;
  const double* mean;           // [C], of the batch; no data: running_mean is used
  const double* variance;       // [C], biased, of the batch; no data: running_variance is used
  RealOf<T>* running_mean;      // [C] or no data; updated from the batch's, with the unbiased variance:
  RealOf<T>* running_variance;  //   running = (1 - momentum) * running + momentum * batch
  int64_t* batches;             // [1] or no data; incremented
  const RealOf<T>* gamma;       // [C]; no data: 1
  const RealOf<T>* beta;        // [C]; no data: 0
  double epsilon, momentum;
  double unbiased;        // P / (P - 1)
  RealOf<T>* norm_mean;   // [C]
  RealOf<T>* norm_scale;  // [C]
  RealOf<T>* norm_shift;  // [C]
  double* invstd;         // [C]
};

// Computes gradients and the correction from the sums over all positions (ALGORITHMS.md section 4):
//
//   grad_gamma = invstd * centred,           grad_beta = masked,
//   constant   = scale * masked / P,         slope     = scale * centred * invstd^2 / P
template <class T>
struct BatchNormBackward {
  int64_t channels, positions;
  BnSums sums;
  const double* invstd;   // [C]
  Norm<RealOf<T>> norm;   // its mean and scale
  RealOf<T>* grad_gamma;  // [C]
  RealOf<T>* grad_beta;   // [C]
  RealOf<T>* mean;        // [C], the norm's mean; no data, like the next two: no correction
  RealOf<T>* constant;    // [C]
  RealOf<T>* slope;       // [C]
  bool accumulate;        // add to constant and slope, which hold those of other batch norms of the same map
};

}  // namespace ladderseg
