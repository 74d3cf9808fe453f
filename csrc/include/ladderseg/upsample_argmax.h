// Labels at full resolution from class scores at low resolution:
//
//   labels[n, y, x] = argmax_k up(scores)[n, y, x, k]      ties go to the smaller k; NaN counts as the largest
//
// up() is bilinear interpolation.
// The full-resolution scores, K times the size of the labels in floats, are never stored.
#pragma once

#include "feature_map.h"

namespace ladderseg {

template <class T>
struct UpsampleArgmax {
  FeatureMap<const T> scores;  // [N, h, w, K], K at most 256
  uint8_t* labels;             // [N, H, W] contiguous
  int64_t height, width;       // H, W
  bool align_corners;          // else half-pixel centres
};

}  // namespace ladderseg
