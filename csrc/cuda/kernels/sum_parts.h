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

template <class R>
struct SumWeightPartsArguments {
  const R* partial;  // [parts][taps][rows][outputs]
  int64 parts;
  int outputs, channels, taps, rows;
  R* result;  // [outputs, channels, taps]
};

}  // namespace ladderseg::cuda
