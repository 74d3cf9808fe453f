// Arguments of the kernels in batch_norm.cu; the operators are those of ladderseg/batch_norm.h.
#pragma once

#include "arguments.h"

namespace ladderseg::cuda {

// Few channels to a block, so that the doubles, slow on consumer devices, are spread over many multiprocessors.
constexpr int kBatchNormThreads = 32;

template <class R>
struct BatchNormForwardArguments {
  int64 channels;
  const double* mean;
  const double* variance;
  R* running_mean;
  R* running_variance;
  int64* batches;
  const R* gamma;
  const R* beta;
  double epsilon, momentum, unbiased;
  R* norm_mean;
  R* norm_scale;
  R* norm_shift;
  double* invstd;
};

template <class R>
struct BatchNormBackwardArguments {
  int64 channels, positions;
  const double* masked;
  const double* centred;
  const double* invstd;
  const R* norm_mean;
  const R* norm_scale;
  R* grad_gamma;
  R* grad_beta;
  R* mean;
  R* constant;
  R* slope;
  int accumulate;
};

}  // namespace ladderseg::cuda
