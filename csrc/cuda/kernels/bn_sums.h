// Arguments of the kernel in bn_sums.cu.
#pragma once

#include "arguments.h"

namespace ladderseg::cuda {

template <class R>
struct BnSumsArguments {
  const R* partial_sums;  // [parts][2][C]
  int64 parts, channels;
  double* masked;   // [C]
  double* centred;  // [C]
};

}  // namespace ladderseg::cuda
