// Computes what kernels normalise with from running statistics, for the kernels of CUDA devices: many batch norms in a
// few launches. The formulas are those of batch_norm.h:
//
//   mean = running_mean,   scale = gamma * invstd,   shift = beta,   invstd = 1 / sqrt(running_variance + epsilon)
#pragma once

#include <vector>

#include "feature_map.h"

namespace ladderseg {

template <class T>
struct UnpreparedNorm {
  int64_t channels;
  const RealOf<T>* running_mean;      // [C]
  const RealOf<T>* running_variance;  // [C]
  const RealOf<T>* gamma;             // [C]; no data: 1
  const RealOf<T>* beta;              // [C]; no data: 0
  double epsilon;
  RealOf<T>* norm;  // [3, C]: mean, scale, shift
  double* invstd;   // [C]
};

template <class T>
struct PrepareNorms {
  std::vector<UnpreparedNorm<T>> norms;
};

}  // namespace ladderseg
