// Batch norm and rectification of what a 3x3 convolution with stride 2 and padding 1 reads: for each of its output
// pixels, its patch of nine pixels side by side as channels (ALGORITHMS.md section 8).
//
//   forward:   output[n, y, x, (3 * ky + kx) * C + c] = relu((v - mean) * scale + shift),
//              v = input[n, 2y + ky - 1, 2x + kx - 1, c]; 0 where that lies outside the map
//   backward:  g = sum of grad_output where input went; then as in bn_relu.h
//
// Both work on strips of rows: `first_row` is the input row, counted from the strip's first, at the centre of the
// strip's first patches: 0 for a whole image or its top strip, 1 for a strip that starts with the row above.
// Neighbouring strips share a row, whose gradient is the sum of their parts, and so are its contributions to the sums
// of BnSums.
#pragma once

#include "feature_map.h"

namespace ladderseg {

template <class T, class R = RealOf<T>>
struct BnReluPatchesForward {
  FeatureMap<const T> input;  // [N, H, W, C]
  Norm<R> norm;
  FeatureMap<T> output;  // [N, h, ceil(W / 2), 9 * C]
  int64 first_row;
};

template <class T, class R = RealOf<T>>
struct BnReluPatchesBackward {
  FeatureMap<const T> grad_output;  // [N, h, ceil(W / 2), 9 * C]
  FeatureMap<const T> input;        // [N, H, W, C]
  Norm<R> norm;
  FeatureMap<T> grad_input;  // [N, H, W, C]
  int64 first_row;
  bool add_first_row;  // add to the first row of grad_input, which has the part of the strip above
  BnSums sums;
};

}  // namespace ladderseg
