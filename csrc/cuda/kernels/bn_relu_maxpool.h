// Arguments of the kernels in bn_relu_maxpool.cu; the operators are those of ladderseg/bn_relu_maxpool.h.
#pragma once

#include "arguments.h"

namespace ladderseg::cuda {

template <class T, class R>
struct BnReluMaxpoolForwardArguments {
  FeatureMap<const T> input;
  Norm<R> norm;  // without a mean: the output is each window's largest x if scale > 0, its smallest if scale < 0
  FeatureMap<T> output;
  Columns columns;  // of the output
  int64 first_row;
};

template <class T, class R>
struct BnReluMaxpoolBackwardArguments {
  FeatureMap<const T> grad_output;
  FeatureMap<const T> input;
  Norm<R> norm;
  FeatureMap<T> grad_input;  // or no data: only the sums are wanted
  const R* constant;         // [C] or nullptr; if given, constant + slope * (x - mean) is subtracted from grad_input
  const R* slope;            // [C], together with constant
  R* partial_sums;           // [blocks of runs][masked, centred][C], for bn_sums.cu
  int64 first_row, first_grad_row;
  int64 first_window_row;             // of the first run
  int64 run_rows, run_columns, runs;  // window rows of a run; runs side by side, and one below the other
  Columns columns;                    // of all images' runs
};

}  // namespace ladderseg::cuda
