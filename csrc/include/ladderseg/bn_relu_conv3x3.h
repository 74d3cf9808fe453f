// Batch norm, rectification and 3x3 convolution with zero padding in one pass (ALGORITHMS.md sections 3 to 5).
//
//   forward:   output[p, k] = sum_{c, u, v} weight[k, c, u, v] * y[p + dilation * (u - 1, v - 1), c]
//              y = relu((x - mean) * scale + shift) inside the map, 0 outside
//   backward:  g[p, c] = sum_{k, u, v} weight[k, c, u, v] * grad[p - dilation * (u - 1, v - 1), k],  masked where y > 0
//              grad_input = scale * g,   sums of BnSums,
//              grad_weight[k, c, u, v] = sum_p grad[p, k] * y[p + dilation * (u - 1, v - 1), c]
//
// y and g exist only as tiles in cache. The forward can deliver the statistics of its output on the way.
//
// Both work on strips of rows. An input map may begin above the strip, to hold its halo: `first_row` is the map's row
// at the strip's first row. Rows outside a map count as zero.
//
// CUDA devices use another order of weights, with channels padded with zeros to C' and K', whole chunks of 16 bytes:
// weight is [K, 3, 3, C'] forward and [3, 3, K', C'] backward (prepare_weights.h).
#pragma once

#include "feature_map.h"

namespace ladderseg {

template <class T>
struct BnReluConv3x3Forward {
  FeatureMap<const T> input;  // [N, H, W, C]
  int64_t input_first_row;
  Norm<RealOf<T>> norm;
  const RealOf<T>* weight;  // [K, C, 3, 3]
  int64_t dilation;
  FeatureMap<T> output;     // [N, rows, W, K]
  bool accumulate;          // add to output instead of overwriting it; the statistics are of the sum
  double* output_mean;      // [K] or nullptr
  double* output_variance;  // [K] or nullptr, together with output_mean
};

template <class T>
struct BnReluConv3x3Backward {
  Gradient<T> grad_output;  // [N, H', W, K]
  int64_t grad_first_row;
  FeatureMap<const T> input;  // [N, H, W, C]
  int64_t input_first_row;
  Norm<RealOf<T>> norm;
  const RealOf<T>* weight;  // [K, C, 3, 3]
  int64_t dilation;
  FeatureMap<T> grad_input;  // [N, rows, W, C], overwritten
  RealOf<T>* grad_weight;    // [K, C, 3, 3] or nullptr
  BnSums sums;               // over the strip, like grad_weight
};

}  // namespace ladderseg
