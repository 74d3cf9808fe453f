// Arguments of the kernel in sum_parts.cu.
#pragma once

#include "arguments.h"

namespace ladderseg::cuda {

template <class R>
struct SumPartsArguments {
  const R* partial;  // [parts][count]
  int64 parts, count;
  R* result;  // [count]
};

}  // namespace ladderseg::cuda
