// Batch norm, rectification and 3x3 max pooling with stride 2 and padding 1: the end of the stem.
//
//   forward:   output[n, y, x] = max of relu((x - mean) * scale + shift) over rows 2y-1..2y+1, columns 2x-1..2x+1
//   backward:  as in bn_relu.h; each pooled gradient goes to its window's first maximum (to its last NaN, if any)
//
// Both work on strips of rows: `first_row` is the input row, counted from the strip's first, at the centre of the
// strip's first pooled row: 0 for a whole image or its top strip, 1 for a strip that starts with a row of halo.
#pragma once

#include "feature_map.h"

namespace ladderseg {

template <class T>
struct BnReluMaxpoolForward {
  FeatureMap<const T> input;  // [N, H, W, C]
  Norm<RealOf<T>> norm;
  FeatureMap<T> output;  // [N, h, w, C]
  int64_t first_row;
};

template <class T>
struct BnReluMaxpoolBackward {
  FeatureMap<const T> grad_output;  // [N, h, w, C]
  FeatureMap<const T> input;        // [N, H, W, C]
  Norm<RealOf<T>> norm;
  FeatureMap<T> grad_input;  // [N, rows, W, C], overwritten; of the input rows from first_grad_row on
  int64_t first_row;
  int64_t first_grad_row;
  BnSums sums;  // over the rows of grad_input
};

}  // namespace ladderseg
