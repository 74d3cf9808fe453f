// Batch norm's arithmetic on vectors, of one number per channel: before the passes over a map, and after them.
#pragma once

#include "feature_map.h"

namespace ladderseg {

// From mean and variance to what kernels normalise with:
//
//   invstd = 1 / sqrt(variance + epsilon),   scale = gamma * invstd,   shift = beta
template <class T>
struct BatchNormForward {
  int64_t channels;
  const double* mean;      // [C], of the batch; no data: the running ones take its place
  const double* variance;  // [C], biased, of the batch; likewise
  T* running_mean;         // [C] or no data; beside those of the batch they are updated, with the unbiased variance:
  T* running_variance;     //   running = (1 - momentum) * running + momentum * batch
  int64_t* batches;        // [1] or no data: one more is counted
  const T* gamma;          // [C]; no data: 1
  const T* beta;           // [C]; no data: 0
  double epsilon, momentum;
  double unbiased;  // P / (P - 1)
  T* norm_mean;     // [C]
  T* norm_scale;    // [C]
  T* norm_shift;    // [C]
  double* invstd;   // [C]
};

// From the sums over all positions to gradients and the correction (ALGORITHMS.md section 4):
//
//   grad_gamma = invstd * centred,           grad_beta = masked,
//   constant   = scale * masked / P,         slope     = scale * centred * invstd^2 / P
template <class T>
struct BatchNormBackward {
  int64_t channels, positions;
  BnSums sums;
  const double* invstd;  // [C]
  Norm<T> norm;          // its mean and scale
  T* grad_gamma;         // [C]
  T* grad_beta;          // [C]
  T* mean;               // [C] or no data, as the two others: nothing is to be corrected; that of the norm
  T* constant;           // [C]
  T* slope;              // [C]
  bool accumulate;       // constant and slope are added to those of other batch norms of the same map
};

}  // namespace ladderseg
