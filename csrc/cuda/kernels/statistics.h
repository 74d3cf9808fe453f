// Arguments of the kernel in statistics.cu.
#pragma once

#include "arguments.h"

namespace ladderseg::cuda {

template <class T, class R>
struct MergeStatisticsArguments {
  const R* partial_statistics;  // [parts][mean, sum of squared deviations][C]
  const T* centre;              // [C], subtracted from all values if it is finite; or nullptr
  int64 parts, channels;
  int64 positions;
  const int* counts;         // [parts], positions of each part; or nullptr:
  int64 positions_per_part;  // part i is of those from i * positions_per_part on
  double* mean;              // [C]
  double* variance;          // [C]
};

}  // namespace ladderseg::cuda
