// Finishes batch norm's sums from the partial sums of blocks.
#include "bn_sums.h"

#include "../kernels/bn_sums.h"
#include "columns.h"

namespace ladderseg::cuda {

PartialSums allocate_partial_sums(const Queue& queue, int64_t parts, int64_t channels) {
  return {queue.allocate(parts * 2 * channels * real_bytes(queue.element)), parts, channels};
}

Buffer buffer(const Queue& queue, const PartialSums& partial, Access access) {
  return vector_buffer(queue, partial.data, partial.parts * 2 * partial.channels, "partial sums", access);
}

void finish_bn_sums(const Queue& queue, const PartialSums& partial, const BnSums& sums) {
  constexpr unsigned kChannels = 8, kParts = 32;  // of a block, as in kernels/bn_sums.cu
  const int64_t channels = partial.channels, bytes = channels * static_cast<int64_t>(sizeof(double));
  const BnSumsArguments<void> arguments{partial.data, partial.parts, channels, sums.masked, sums.centred};
  launch(queue,
         {"bn_sums",
          "bn_sums",
          {static_cast<unsigned>(ceil_divide(channels, kChannels))},
          {kChannels, kParts},
          {buffer(queue, partial, Access::read), buffer(sums.masked, bytes, Access::write, "masked"),
           buffer(sums.centred, bytes, Access::write, "centred")},
          2.0 * partial.parts * channels},
         &arguments);
}

}  // namespace ladderseg::cuda
