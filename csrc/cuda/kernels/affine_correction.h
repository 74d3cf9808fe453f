// Arguments of the kernel in affine_correction.cu; the operator is that of ladderseg/affine_correction.h.
#pragma once

#include "arguments.h"

namespace ladderseg::cuda {

template <class T, class R>
struct AffineCorrectionArguments {
  Gradient<T, R> gradient;
  FeatureMap<T> output;
  Columns columns;
};

}  // namespace ladderseg::cuda
