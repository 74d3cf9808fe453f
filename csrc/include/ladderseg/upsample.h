// Bilinear upsampling with half-pixel centres (align_corners = false in torch), and its transpose.
//
// The forward works on strips of rows: `output` is rows first_row.. of an upsampled map of `height` rows.
// The backward gathers row by row, so it gives the same bits on every run.
#pragma once

#include "feature_map.h"

namespace ladderseg {

template <class T>
struct UpsampleForward {
  FeatureMap<const T> coarse;  // [N, h, w, D]
  FeatureMap<T> output;        // [N, rows, W, D]
  int64_t first_row;
  int64_t height;
};

template <class T>
struct UpsampleBackward {
  FeatureMap<const T> grad_output;  // [N, H, W, D]
  FeatureMap<T> grad_coarse;        // [N, h, w, D], overwritten
};

}  // namespace ladderseg
