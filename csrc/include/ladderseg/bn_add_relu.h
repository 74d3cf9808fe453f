// The end of a residual unit: batch norm, the sum with the shortcut, and rectification (ALGORITHMS.md section 8).
//
//   forward:   output = relu(bn(input) + s),  bn(x) = (x - mean) * scale + shift,
//              s = shortcut, or bn(shortcut) with a norm of its own; neither is rectified
//   backward:  m = grad_output where output > 0, else 0
//              grad_input = scale * m,  grad_shortcut (+)= m, or shortcut_norm.scale * m;
//              the sums of BnSums, of the input and of a shortcut that has a norm
#pragma once

#include "feature_map.h"

namespace ladderseg {

template <class T, class R = RealOf<T>>
struct BnAddReluForward {
  FeatureMap<const T> input;  // [P, C]
  Norm<R> norm;
  FeatureMap<const T> shortcut;  // [P, C]
  Norm<R> shortcut_norm;         // or no data
  FeatureMap<T> output;          // [P, C]; may be input or shortcut itself
};

template <class T, class R = RealOf<T>>
struct BnAddReluBackward {
  Gradient<T, R> grad_output;    // [P, C]
  FeatureMap<const T> output;    // [P, C]
  FeatureMap<const T> input;     // [P, C]
  Norm<R> norm;                  // its shift is not read
  FeatureMap<const T> shortcut;  // [P, C]; no data, like the next: the shortcut has no norm
  Norm<R> shortcut_norm;         // its shift is not read
  FeatureMap<T> grad_input;      // [P, C] or no data
  FeatureMap<T> grad_shortcut;   // [P, C] or no data; may be grad_output itself, unless it is accumulated
  bool accumulate;               // add to grad_shortcut instead of overwriting it
  BnSums sums;
  BnSums shortcut_sums;  // no data without shortcut_norm
};

}  // namespace ladderseg
