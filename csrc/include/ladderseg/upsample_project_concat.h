// The transition-up's input in one pass (ALGORITHMS.md section 5):
//
//   output[..., :D] = bilinear upsampling of coarse (half-pixel centres) to the size of skip
//   output[..., D:] = conv1x1(relu((skip - mean) * scale + shift), weight)
//
// Its backward consists of the backward of bn_relu_conv1x1 for the skip and that of upsample for the coarse input.
#pragma once

#include "feature_map.h"

namespace ladderseg {

template <class T>
struct UpsampleProjectConcatForward {
  FeatureMap<const T> coarse;  // [N, h, w, D]
  FeatureMap<const T> skip;    // [N, H, W, C]
  Norm<RealOf<T>> norm;        // of the skip
  const RealOf<T>* weight;     // [M, C]
  FeatureMap<T> output;        // [N, H, W, D + M]
};

}  // namespace ladderseg
