// Arguments of the kernels in bn_relu.cu; the operators are those of ladderseg/bn_relu.h.
#pragma once

#include "arguments.h"

namespace ladderseg::cuda {

template <class T, class R>
struct BnReluForwardArguments {
  FeatureMap<const T> input;
  Norm<R> norm;
  FeatureMap<T> output;
  Columns columns;
};

template <class T, class R>
struct BnReluBackwardArguments {
  FeatureMap<const T> grad_output;
  FeatureMap<const T> input;
  Norm<R> norm;
  FeatureMap<T> grad_input;
  R* partial_sums;  // [blocks of pixels][masked, centred][C], for bn_sums.cu
  Columns columns;
  int accumulate;
};

}  // namespace ladderseg::cuda
