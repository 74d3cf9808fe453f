// Arguments of the kernel in channel_statistics.cu; the operator is that of ladderseg/channel_statistics.h.
#pragma once

#include "arguments.h"

namespace ladderseg::cuda {

template <class T, class R>
struct ChannelStatisticsArguments {
  FeatureMap<const T> input;
  R* partial_statistics;  // [blocks of pixels][mean, sum of squared deviations][C], for statistics.cu; of what is left
                          // of the values when that of the first pixel has been subtracted
  Columns columns;
};

}  // namespace ladderseg::cuda
