// Arguments of the kernels in upsample.cu; the operators are those of ladderseg/upsample.h.
#pragma once

#include "arguments.h"

namespace ladderseg::cuda {

template <class T>
struct UpsampleForwardArguments {
  FeatureMap<const T> coarse;
  FeatureMap<T> output;
  int64 first_row;
  int64 height;
  Columns columns;
};

// A block has blockDim.y neighbouring columns of the coarse map, and walks down rows_per_block rows of it.
template <class T>
struct UpsampleBackwardArguments {
  FeatureMap<const T> grad_output;
  FeatureMap<T> grad_coarse;
  int64 column_tiles, row_tiles;  // of an image
  int64 rows_per_block;
  int wide;
};

}  // namespace ladderseg::cuda
