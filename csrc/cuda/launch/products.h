// What the launchers of the convolutions share: whether tensor cores multiply, and how the sum of a weight gradient is
// divided among blocks.
#pragma once

#include "../kernels/product.h"
#include "maps.h"

namespace ladderseg::cuda {

inline const Size kProductBlock{kProductThreads};

// Whether products of the queue's element type are by tensor cores, where memory is aligned.
bool multiplies_by_tensor_cores(const Queue& queue);

// The weight gradients that blocks make of parts of the pixels.
struct WeightParts {
  int64_t pixels_per_part, count;
};

// As many as keep the device busy, where `tiles` blocks share a part; whole steps of `depth` pixels, and not fewer than
// `least_steps` of these, for a part is written and read once more. At least `least_parts` in any case.
WeightParts weight_parts(const Queue& queue, int64_t pixels, int64_t tiles, int64_t depth, int64_t least_steps,
                         int64_t least_parts = 1);

inline Buffer parts_buffer(const Queue& queue, const WeightParts& parts, const void* partial, int64_t count) {
  return vector_buffer(queue, partial, parts.count * count, "partial weight gradients", Access::write);
}

}  // namespace ladderseg::cuda
