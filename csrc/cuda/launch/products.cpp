// Tensor cores or not, and the parts of weight gradients: see products.h.
#include "products.h"

#include <algorithm>
#include <limits>

#include "columns.h"

namespace ladderseg::cuda {
namespace {

constexpr int64_t kMostPixels = int64_t(1) << 30;  // of a part: kernels number them by ints

// Steps of each part when `steps` of them, in parts of `tiles` equal blocks each, are shared among the multiprocessors.
// Those with the most blocks finish last; a block's time is that of its steps, and of a few more for its beginning and
// for its result, which is written and read once more. So from about two blocks each, which reside there at a time, to
// four each, the best number of parts is where the most loaded takes the least time: the fewest of such.
int64_t balanced_steps(int64_t processors, int64_t tiles, int64_t steps, int64_t more_steps) {
  const int64_t two_each = ceil_divide(2 * processors, tiles);
  int64_t best = steps, least = std::numeric_limits<int64_t>::max();
  for (int64_t parts = std::max<int64_t>(1, two_each * 3 / 4); parts <= 2 * two_each; ++parts) {
    const int64_t share = ceil_divide(steps, parts), blocks = ceil_divide(steps, share) * tiles;
    const int64_t time = ceil_divide(blocks, processors) * (share + more_steps);
    if (time < least) {
      best = share;
      least = time;
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
  const int64_t steps = std::max<int64_t>(1, ceil_divide(pixels, depth));
  const int64_t balanced = balanced_steps(multiprocessors(queue), tiles, steps, 2 * least_steps);
  const int64_t share = std::min({std::max(balanced, least_steps), steps, std::max<int64_t>(1, kMostPixels / depth)});
  return {share * depth, ceil_divide(steps, share)};
}

}  // namespace ladderseg::cuda
