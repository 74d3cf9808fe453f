// Mean and biased variance of every channel, from the statistics of parts of the positions.
#pragma once

#include "maps.h"

namespace ladderseg::cuda {

// Scratch memory for means and sums of squared deviations, [parts][2][channels] of Real, for kernels to fill. Kernels
// whose parts have different sizes fill `counts` too; without it, part i covers the positions from
// i * positions_per_part up to the next part or the last position. Empty parts are not read.
struct PartialStatistics {
  void* data;
  int64_t parts, channels, positions, positions_per_part;
  const void* centre = nullptr;  // [channels] of the element type, subtracted from all values: kernels/statistics.cuh
  int* counts = nullptr;         // [parts]
};

PartialStatistics allocate_partial_statistics(const Queue& queue, int64_t parts, int64_t channels, int64_t positions,
                                              int64_t positions_per_part);
// For parts that have different sizes.
PartialStatistics allocate_partial_statistics(const Queue& queue, int64_t parts, int64_t channels, int64_t positions);
// The buffers that a kernel fills.
void add_statistics(const Queue& queue, const PartialStatistics& partial, std::vector<Buffer>& buffers);
Buffer buffer(const Queue& queue, const PartialStatistics& partial, Access access = Access::write);

// Merges the parts to mean and variance [channels]; NaN if there is no position.
void finish_statistics(const Queue& queue, const PartialStatistics& partial, double* mean, double* variance);

}  // namespace ladderseg::cuda
