// Tensor cores or not, and the parts of weight gradients: see products.h.
#include "products.h"

#include <algorithm>

#include "columns.h"

namespace ladderseg::cuda {

bool multiplies_by_tensor_cores(const Queue& queue) {
  switch (queue.element) {
    case Element::float16:
      return capability(queue) >= 75;
    case Element::bfloat16:
      return capability(queue) >= 80;
    case Element::float32:
      return queue.allow_tf32 && capability(queue) >= 80;
    default:
      return false;
  }
}

WeightParts weight_parts(const Queue& queue, int64_t pixels, int64_t tiles, int64_t depth, int64_t least_steps,
                         int64_t least_parts) {
  constexpr int64_t kBlocksPerProcessor = 2;  // resident blocks: one round of equal blocks, and the fewest parts
  const int64_t wanted = ceil_divide(kBlocksPerProcessor * multiprocessors(queue), tiles);
  const int64_t most = ceil_divide(pixels, least_steps * depth);
  const int64_t share = ceil_divide(pixels, std::max({int64_t(1), std::min(wanted, most), least_parts}));
  const int64_t pixels_per_part = std::max<int64_t>(1, ceil_divide(share, depth)) * depth;
  return {pixels_per_part, std::max<int64_t>(1, ceil_divide(pixels, pixels_per_part))};
}

}  // namespace ladderseg::cuda
