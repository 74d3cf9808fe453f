// Arguments of the kernels in bn_relu.cu; the operators are those of ladderseg/bn_relu.h.
#pragma once

#include "arguments.h"

namespace ladderseg::cuda {

template <class T, class R>
struct BnReluForwardArguments {
  Map<const T> input;
  Norm<R> norm;
  Map<T> output;
  Columns columns;
};

template <class T, class R>
struct BnReluBackwardArguments {
  Map<const T> grad_output;
  Map<const T> input;
  Norm<R> norm;
  Map<T> grad_input;
  R* partial_sums;  // [blocks of pixels][masked, centred][C], for bn_sums.cu
  Columns columns;
  int accumulate;
};

}  // namespace ladderseg::cuda
