// Tensor cores or not, and the parts of weight gradients: see products.h.
#include "products.h"

#include <algorithm>

#include "columns.h"

namespace ladderseg::cuda {
namespace {

constexpr int64_t kMostPixels = int64_t(1) << 30;  // of a part: kernels number them by ints

// Parts, of `tiles` equal blocks each, that share a sum among the multiprocessors. About two blocks reside on each at a
// time; those with the most blocks finish last, and a block's time is that of its share of the sum. So among the
// numbers of parts near two blocks each, the best is where the most loaded has the least: the fewest of such, because a
// part is written and read once more.
int64_t balanced_parts(int64_t processors, int64_t tiles) {
  const int64_t two_each = ceil_divide(2 * processors, tiles);
  int64_t best = 0, blocks = 1;  // of the most loaded; blocks / best is its time
  for (int64_t parts = std::max<int64_t>(1, two_each * 3 / 4); parts <= two_each + 1; ++parts) {
    const int64_t most = ceil_divide(parts * tiles, processors);
    if (best == 0 || most * best < blocks * parts) {
      best = parts;
      blocks = most;
    }
  }
  return best;
}

}  // namespace

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

WeightParts weight_parts(const Queue& queue, int64_t pixels, int64_t tiles, int64_t depth, int64_t least_steps) {
  const int64_t wanted = balanced_parts(multiprocessors(queue), tiles);
  const int64_t most = ceil_divide(pixels, least_steps * depth);
  const int64_t least = ceil_divide(pixels, kMostPixels);
  const int64_t share = ceil_divide(pixels, std::max({int64_t(1), std::min(wanted, most), least}));
  const int64_t pixels_per_part = std::max<int64_t>(1, ceil_divide(share, depth)) * depth;
  return {pixels_per_part, std::max<int64_t>(1, ceil_divide(pixels, pixels_per_part))};
}

}  // namespace ladderseg::cuda
