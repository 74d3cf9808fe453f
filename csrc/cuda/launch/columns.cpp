// Grids for kernels whose threads walk down columns of channels.
#include "columns.h"

#include <algorithm>

namespace ladderseg::cuda {
namespace {

constexpr int64_t kThreads = 256;            // kColumnThreads in kernels/columns.cuh
constexpr int64_t kPixelsPerThread = 4;      // at least: norms are loaded and sums are added once per thread
constexpr int64_t kBlocksPerProcessor = 16;  // two rounds of blocks of 256 threads

}  // namespace

ColumnGrid column_grid(const Queue& queue, int64_t channels, int64_t pixels, bool wide, int64_t max_parts) {
  const int64_t width = wide ? 16 / element_bytes(queue.element) : 1;
  const int64_t columns = channels / width;
  int64_t across = 1;  // threads side by side: a power of two, up to a warp's
  while (across < 32 && across < columns) across *= 2;
  const int64_t down = kThreads / across;
  const int64_t groups = ceil_divide(columns, across);
  const int64_t wanted = ceil_divide(kBlocksPerProcessor * multiprocessors(queue), groups);
  const int64_t most = std::max<int64_t>(1, ceil_divide(pixels, down * kPixelsPerThread));
  int64_t parts = std::min({std::max<int64_t>(1, wanted), most, max_parts});
  const int64_t pixels_per_block = std::max<int64_t>(1, ceil_divide(pixels, parts));
  parts = std::max<int64_t>(1, ceil_divide(pixels, pixels_per_block));
  return {{static_cast<unsigned>(groups), static_cast<unsigned>(parts), 1},
          {static_cast<unsigned>(across), static_cast<unsigned>(down), 1},
          {pixels_per_block, wide}};
}

}  // namespace ladderseg::cuda
