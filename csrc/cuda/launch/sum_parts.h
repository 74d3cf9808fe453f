// A sum of Reals whose parts different blocks compute.
#pragma once

#include "maps.h"

namespace ladderseg::cuda {

// Memory [parts][count] for a kernel to write: the result itself if there is one part.
void* allocate_parts(const Queue& queue, int64_t parts, int64_t count, void* result);

// Adds the parts up in `result` [count].
void finish_parts(const Queue& queue, const void* partial, int64_t parts, int64_t count, void* result);

// The same for parts [parts][taps][rows][outputs] of a weight's gradient [outputs, channels, taps], of which rows
// beyond the channels are left out. The parts are never the result.
struct WeightSize {
  int64_t outputs, channels, taps, rows;
};
void finish_weight_parts(const Queue& queue, const void* partial, int64_t parts, const WeightSize& size, void* result);

}  // namespace ladderseg::cuda
