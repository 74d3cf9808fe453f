// Batch norm, rectification and 2x2 average pooling with stride 2; a last odd row or column is dropped.
//
//   forward:   output[n, y, x] = mean of the four relu((x - mean) * scale + shift) under it
//   backward:  as in bn_relu.h, with a quarter of the pooled gradient at each of the four
#pragma once

#include "feature_map.h"

namespace ladderseg {

template <class T>
struct BnReluAvgpool2Forward {
  FeatureMap<const T> input;  // [N, H, W, C]
  Norm<RealOf<T>> norm;
  FeatureMap<T> output;  // [N, H / 2, W / 2, C]
};

template <class T>
struct BnReluAvgpool2Backward {
  FeatureMap<const T> grad_output;  // [N, H / 2, W / 2, C]
  FeatureMap<const T> input;        // [N, H, W, C]
  Norm<RealOf<T>> norm;
  FeatureMap<T> grad_input;  // [N, H, W, C]
  bool accumulate;           // add to grad_input instead of overwriting it
  BnSums sums;
};

}  // namespace ladderseg
