// The transition-up's input in one pass (ALGORITHMS.md section 5):
//
//   output[..., :D] = bilinear upsampling of coarse (half-pixel centres) to the size of skip
//   output[..., D:] = conv1x1(relu((skip - mean) * scale + shift), weight)
//
// with the statistics of all D + M output channels. Its backward is that of bn_relu_conv1x1 for the skip and that of
// upsample for the coarse input.
//
// It works on strips of rows: skip and output are rows first_row.. of maps of `height` rows.
#pragma once

#include "feature_map.h"

namespace ladderseg {

template <class T>
struct UpsampleProjectConcatForward {
  FeatureMap<const T> coarse;  // [N, h, w, D]
  FeatureMap<const T> skip;    // [N, rows, W, C]
  BnRelu<T> norm;              // of the skip
  const T* weight;             // [M, C]
  int64_t first_row;
  int64_t height;
  FeatureMap<T> output;        // [N, rows, W, D + M]
  double* output_mean;         // [D + M] or nullptr
  double* output_variance;     // [D + M] or nullptr, together with output_mean
};

}  // namespace ladderseg
