// Grids of blocks that work on columns of a map: see kernels/columns.cuh.
#pragma once

#include "maps.h"

namespace ladderseg::cuda {

struct ColumnGrid {
  Size grid, block;
  Columns columns;
  int64_t parts() const { return grid.y; }  // blocks that share a channel
};

// Grid for `channels` x `pixels`, with enough blocks to keep the device busy, at least a few pixels per thread, and at
// most `max_parts` blocks that share a channel.
ColumnGrid column_grid(const Queue& queue, int64_t channels, int64_t pixels, bool wide, int64_t max_parts);

// Most parts that pay off if a kernel leaves a result in parts for another kernel to add up.
constexpr int64_t kMaxReductionParts = 512;
// Limit of gridDim.y.
constexpr int64_t kMaxParts = 65535;

inline int64_t ceil_divide(int64_t a, int64_t b) { return (a + b - 1) / b; }

}  // namespace ladderseg::cuda
