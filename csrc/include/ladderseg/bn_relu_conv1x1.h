// Batch norm, rectification and 1x1 convolution in one pass (ALGORITHMS.md sections 3 and 4).
//
//   forward:   output[p, m] = sum_c weight[m, c] * y[p, c],   y = relu((x - mean) * scale + shift)
//   backward:  g[p, c] = sum_m weight[m, c] * grad_output[p, m],   masked where y > 0
//              grad_input (+)= scale * g,   sums of BnSums,   grad_weight[m, c] = sum_p grad_output[p, m] * y[p, c]
//
//   weight:    grad_weight[m, c] = sum_p grad_output[p, m] * (y[p, c] - centre[c])
//
// y and g exist only as tiles in cache. The forward can deliver the statistics of its output on the way. `weight`
// serves products of deviations (ALGORITHMS.md section 8): near-equal numbers are subtracted before anything is added
// up.
#pragma once

#include "feature_map.h"

namespace ladderseg {

template <class T>
struct BnReluConv1x1Forward {
  FeatureMap<const T> input;  // [P, C]
  Norm<RealOf<T>> norm;
  const RealOf<T>* weight;  // [M, C]
  FeatureMap<T> output;     // [P, M]
  double* output_mean;      // [M] or nullptr
  double* output_variance;  // [M] or nullptr, together with output_mean
};

template <class T>
struct BnReluConv1x1Backward {
  Gradient<T> grad_output;    // [P, M]
  FeatureMap<const T> input;  // [P, C]
  Norm<RealOf<T>> norm;
  const RealOf<T>* weight;   // [M, C]
  FeatureMap<T> grad_input;  // [P, C] or no data
  bool accumulate;           // add to grad_input instead of overwriting it
  RealOf<T>* grad_weight;    // [M, C] or nullptr
  BnSums sums;
};

template <class T>
struct BnReluConv1x1Weight {
  Gradient<T> grad_output;    // [P, M]
  FeatureMap<const T> input;  // [P, C]
  Norm<RealOf<T>> norm;
  const RealOf<T>* centre;  // [C] or nullptr for 0
  RealOf<T>* grad_weight;   // [M, C]
};

}  // namespace ladderseg
