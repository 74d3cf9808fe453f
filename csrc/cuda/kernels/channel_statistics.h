// Arguments of the kernel in channel_statistics.cu; the operator is that of ladderseg/channel_statistics.h.
#pragma once

#include "arguments.h"

namespace ladderseg::cuda {

template <class T, class R>
struct ChannelStatisticsArguments {
  FeatureMap<const T> input;
  const T* centre;        // [C], subtracted from all values if it is finite
  R* partial_statistics;  // [blocks of pixels][mean, sum of squared deviations][C], for statistics.cu
  Columns columns;
};

}  // namespace ladderseg::cuda
