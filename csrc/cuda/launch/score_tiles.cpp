// Tiles and scratch memory for the kernels that upsample class scores.
#include "score_tiles.h"

#include <algorithm>

#include "columns.h"

namespace ladderseg::cuda {
namespace {

constexpr int64_t kStagedPixels = 66;  // as in kernels/upsampled_scores.cuh
constexpr int64_t kStripRows = 4;      // as in kernels/pixel_tile.cuh
constexpr int64_t kMostRows = 16;      // kMostTileRows in kernels/coarse_walk.cuh
// Number of pixels that a tile may read beyond its size, because positions are rounded. On axes too long for this
// slack, tiles are as narrow as possible.
constexpr int64_t kSlack = 4;
constexpr int64_t kLongAxis = 1 << 20;

// Size of equal tiles of at most `most` that cover `count`.
int64_t tile_size(int64_t count, int64_t most) {
  most = std::max<int64_t>(1, std::min(count, most));
  return std::max<int64_t>(1, ceil_divide(count, ceil_divide(count, most)));
}

// Fine and coarse positions that span the same distance.
struct Spans {
  int64_t fine, coarse;
};

Spans spans(int64_t coarse, int64_t fine, bool align_corners) {
  return align_corners ? Spans{std::max<int64_t>(fine - 1, 1), std::max<int64_t>(coarse - 1, 1)} : Spans{fine, coarse};
}

}  // namespace

PixelTiles pixel_tiles(const FeatureMap<const void>& coarse, int64_t height, int64_t width, bool align_corners) {
  const Spans span = spans(coarse.w, width, align_corners);
  const int64_t most = std::max(coarse.w, width) > kLongAxis ? 1 : (kStagedPixels - kSlack) * span.fine / span.coarse;
  const int64_t columns = tile_size(width, std::min<int64_t>(most, kScoreThreads));
  // Each part has at least four strips.
  const int64_t parts = std::max<int64_t>(1, height / coarse.h / (4 * kStripRows));
  return {columns, ceil_divide(width, columns), parts};
}

CoarseTiles coarse_tiles(const Queue& queue, const FeatureMap<const void>& coarse, int64_t width, bool align_corners) {
  const Spans span = spans(coarse.w, width, align_corners);
  // Fine columns that read n coarse ones: those of n + 1 cells.
  const bool is_long = std::max(coarse.w, width) > kLongAxis;
  const int64_t most = is_long ? 1 : (kScoreThreads - kSlack) * span.coarse / span.fine - 1;
  const int64_t columns = tile_size(coarse.w, std::min(most, kStagedPixels - 2));
  const int64_t column_tiles = ceil_divide(coarse.w, columns);
  // The rows at a tile's upper edge are computed twice, so tall tiles save work; but every multiprocessor should have a
  // few blocks, two rounds of four.
  int64_t rows = kMostRows;
  while (rows > 1 && coarse.n * column_tiles * ceil_divide(coarse.h, rows) < 8 * multiprocessors(queue)) rows /= 2;
  rows = tile_size(coarse.h, rows);
  return {rows, columns, ceil_divide(coarse.h, rows), column_tiles};
}

}  // namespace ladderseg::cuda
