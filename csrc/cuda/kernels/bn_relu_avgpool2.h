// Arguments of the kernels in bn_relu_avgpool2.cu; the operators are those of ladderseg/bn_relu_avgpool2.h.
#pragma once

#include "arguments.h"

namespace ladderseg::cuda {

template <class T, class R>
struct BnReluAvgpool2ForwardArguments {
  FeatureMap<const T> input;
  Norm<R> norm;
  FeatureMap<T> output;
  Columns columns;  // of the output
};

template <class T, class R>
struct BnReluAvgpool2BackwardArguments {
  FeatureMap<const T> grad_output;
  FeatureMap<const T> input;
  Norm<R> norm;
  FeatureMap<T> grad_input;
  R* partial_sums;                // [blocks of cells][masked, centred][C], for bn_sums.cu
  int64 cell_rows, cell_columns;  // cells of 2x2 pixels to be worked on; a last one may be cut by the map's edge
  Columns columns;                // of the cells
  int accumulate;
};

}  // namespace ladderseg::cuda
