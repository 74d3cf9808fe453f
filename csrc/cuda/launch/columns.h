// Grids of blocks that work on columns of a map: see kernels/columns.cuh.
#pragma once

#include "maps.h"

namespace ladderseg::cuda {

struct ColumnGrid {
  Size grid, block;
  Columns columns;
  int64_t parts() const { return grid.y; }  // blocks that share a channel
};

// For `channels` x `pixels`. There are as many blocks as keep the device busy, each with at least a few pixels per
// thread, and at most `max_parts` that share a channel.
ColumnGrid column_grid(const Queue& queue, int64_t channels, int64_t pixels, bool wide, int64_t max_parts);

// Where a kernel leaves a result in parts for another kernel to put together, more parts than this do not pay.
constexpr int64_t kMaxReductionParts = 512;
// gridDim.y can be no more.
constexpr int64_t kMaxParts = 65535;

inline int64_t ceil_divide(int64_t a, int64_t b) { return (a + b - 1) / b; }

}  // namespace ladderseg::cuda
