// The sums of a batch norm's backward, from the sums of many blocks.
#pragma once

#include "maps.h"

namespace ladderseg::cuda {

// Scratch memory for `parts` times the sums of `channels`, for kernels to fill.
struct PartialSums {
  void* data;
  int64_t parts, channels;
};

PartialSums allocate_partial_sums(const Queue& queue, int64_t parts, int64_t channels);
Buffer buffer(const Queue& queue, const PartialSums& partial, Access access = Access::write);

// Adds the parts up in `sums`.
void finish_bn_sums(const Queue& queue, const PartialSums& partial, const BnSums& sums);

}  // namespace ladderseg::cuda
