// The transition-up's input in one pass (ALGORITHMS.md section 5):
//
//   output[..., :D] = bilinear upsampling of coarse (half-pixel centres) to the size of skip
//   output[..., D:] = conv1x1(relu((skip - mean) * scale + shift), weight)
//
// with the statistics of all D + M output channels. Its backward is bn_relu_conv1x1's for the skip and this for the
// coarse input: grad_coarse = the transpose of the upsampling, gathered row by row, so the same bits on every run.
#pragma once

#include "feature_map.h"

namespace ladderseg {

template <class T>
struct UpsampleProjectConcatForward {
  FeatureMap<const T> coarse;  // [N, h, w, D]
  FeatureMap<const T> skip;    // [N, H, W, C]
  BnRelu<T> norm;              // of the skip
  const T* weight;             // [M, C]
  FeatureMap<T> output;        // [N, H, W, D + M]
  double* output_mean;         // [D + M] or nullptr
  double* output_variance;     // [D + M] or nullptr, together with output_mean
};

template <class T>
struct UpsampleBackward {
  FeatureMap<const T> grad_output;  // [N, H, W, D]
  FeatureMap<T> grad_coarse;        // [N, h, w, D], overwritten
};

}  // namespace ladderseg
