// Mean and biased variance of every channel from those of parts of the positions.
#pragma once

#include "maps.h"

namespace ladderseg::cuda {

// Room for means and sums of squared deviations, [parts][2][channels] of Real, for kernels to fill. Part i is of the
// positions from i * positions_per_part on, up to the next part's or the last position; parts without any are not read.
struct PartialStatistics {
  void* data;
  int64_t parts, channels, positions, positions_per_part;
  const void* centre = nullptr;  // [channels] of the element type, subtracted from all values: kernels/statistics.cuh
};

PartialStatistics allocate_partial_statistics(const Queue& queue, int64_t parts, int64_t channels, int64_t positions,
                                              int64_t positions_per_part);
Buffer buffer(const Queue& queue, const PartialStatistics& partial, Access access = Access::write);

// Put them together in mean and variance [channels]; NaN where there is no position.
void finish_statistics(const Queue& queue, const PartialStatistics& partial, double* mean, double* variance);

}  // namespace ladderseg::cuda
