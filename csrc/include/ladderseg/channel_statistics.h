// Mean and biased variance of every channel over all positions.
//
//   mean[c] = sum_p x[p, c] / P,   variance[c] = sum_p (x[p, c] - mean[c])^2 / P
//
// Two passes over each tile while it is in cache, tiles merged by Chan's formula in double: never E[x^2] - E[x]^2.
#pragma once

#include "feature_map.h"

namespace ladderseg {

template <class T>
struct ChannelStatistics {
  FeatureMap<const T> input;  // [P, C]
  double* mean;               // [C]
  double* variance;           // [C]
};

}  // namespace ladderseg
