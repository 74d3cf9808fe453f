// Batch norm and rectification.
//
//   forward:   output = y = relu((x - mean) * scale + shift)
//   backward:  grad_input (+)= scale * m,  m = grad_output where y > 0, else 0;  and the sums of BnSums
#pragma once

#include "feature_map.h"

namespace ladderseg {

template <class T>
struct BnReluForward {
  FeatureMap<const T> input;  // [P, C]
  Norm<RealOf<T>> norm;
  FeatureMap<T> output;  // [P, C]
};

template <class T>
struct BnReluBackward {
  FeatureMap<const T> grad_output;  // [P, C]
  FeatureMap<const T> input;        // [P, C]
  Norm<RealOf<T>> norm;
  FeatureMap<T> grad_input;  // [P, C]; may be grad_output itself
  bool accumulate;           // add to grad_input instead of overwriting it
  BnSums sums;
};

}  // namespace ladderseg
