// Decisions that the launchers of the convolutions share: whether tensor cores multiply, and how the sum of a weight
// gradient is divided among blocks.
#pragma once

#include "../kernels/product.h"
#include "maps.h"

namespace ladderseg::cuda {

inline const Size kProductBlock{kProductThreads};

// Whether tensor cores compute products of the queue's element type, given aligned memory.
bool multiplies_by_tensor_cores(const Queue& queue);

// Division of the pixels into parts, whose weight gradients different blocks compute.
struct WeightParts {
  int64_t pixels_per_part, count;
};

// Makes as many parts as keep the device busy, with `tiles` blocks per part. A part has whole steps of `depth` pixels,
// at least `least_steps`, because it is written and read once more; and no more pixels than an int can number.
WeightParts weight_parts(const Queue& queue, int64_t pixels, int64_t tiles, int64_t depth, int64_t least_steps);

inline Buffer parts_buffer(const Queue& queue, const WeightParts& parts, const void* partial, int64_t count) {
  return vector_buffer(queue, partial, parts.count * count, "partial weight gradients", Access::write);
}

}  // namespace ladderseg::cuda
