// Arguments of the kernels in bn_relu_avgpool2.cu; the operators are those of ladderseg/bn_relu_avgpool2.h.
#pragma once

#include "arguments.h"

namespace ladderseg::cuda {

template <class T, class R>
struct BnReluAvgpool2ForwardArguments {
  Map<const T> input;
  Norm<R> norm;
  Map<T> output;
  Columns columns;  // of the output
};

template <class T, class R>
struct BnReluAvgpool2BackwardArguments {
  Map<const T> grad_output;
  Map<const T> input;
  Norm<R> norm;
  Map<T> grad_input;
  R* partial_sums;                // [blocks of cells][masked, centred][C], for bn_sums.cu
  int64 cell_rows, cell_columns;  // cells of 2x2 pixels to be worked on; a last one may be cut by the map's edge
  Columns columns;                // of the cells
  int accumulate;
};

}  // namespace ladderseg::cuda
