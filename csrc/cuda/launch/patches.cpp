// The division of strips into patches: see kernels/patches.h.
#include "patches.h"

#include <algorithm>
#include <limits>
#include <stdexcept>
#include <string>

#include "../kernels/bn_relu_conv3x3.h"
#include "columns.h"

namespace ladderseg::cuda {
namespace {

// A dilation larger than any map's extents, yet small enough for the positions of all pixels of a patch to be ints. A
// larger one, cut to this, still moves every tap but the middle one out of the map.
constexpr int64_t kMaxStep = 1 << 25;

}  // namespace

// The rounding of the multiplier adds less than 1 / value to the quotients of numbers below 2^31.
Divisor divisor(int64_t value) {
  int bits = 0;
  while (int64_t(1) << bits < value) ++bits;
  const int shift = 31 + bits;
  const uint64_t multiplier = ((uint64_t(1) << shift) + value - 1) / value;
  return {static_cast<int>(value), static_cast<unsigned>(multiplier), shift};
}

PatchGrid make_patch_grid(int64_t n, int64_t h, int64_t w, int64_t dilation, int64_t patch_height,
                          int64_t patch_width) {
  const int64_t step = std::min(dilation, kMaxStep);
  const int64_t rows = std::max<int64_t>(h, 1), columns = std::max<int64_t>(w, 1);
  const int64_t across = ceil_divide(ceil_divide(columns, step), patch_width);
  const int64_t down = ceil_divide(ceil_divide(rows, step), patch_height);
  const int64_t classes_x = std::min(step, columns), classes_y = std::min(step, rows);
  const int64_t images = h && w ? n : 0;
  return {
      static_cast<int>(h), static_cast<int>(w), static_cast<int>(step), divisor(across),
      divisor(down),       divisor(classes_x),  divisor(classes_y),     images * classes_y * classes_x * down * across};
}

unsigned patch_blocks(const PatchGrid& grid, int64_t column_tiles) {
  const int64_t blocks = grid.count * column_tiles;
  if (blocks > std::numeric_limits<int32_t>::max())
    throw std::runtime_error("a map of " + std::to_string(grid.h) + " x " + std::to_string(grid.w) +
                             " pixels with a dilation of " + std::to_string(grid.step) + " needs " +
                             std::to_string(blocks) + " blocks, more than a launch can have");
  return static_cast<unsigned>(blocks);
}

PatchVariant patch_variant(const Queue& queue, const PatchKernels& kernels, const FeatureMap<void>& strip,
                           int64_t dilation) {
  const int64_t column_tiles = ceil_divide(strip.c, kPatchColumns);
  const PatchGrid large = make_patch_grid(strip.n, strip.h, strip.w, dilation, kLargePatchHeight, kLargePatchWidth);
  const PatchGrid small = make_patch_grid(strip.n, strip.h, strip.w, dilation, kSmallPatchHeight, kSmallPatchWidth);
  // By its instructions, a block with a small patch takes 3/10 of the time of one with a large patch.
  const bool idle = large.count * column_tiles < multiprocessors(queue), faster = 3 * small.count < 10 * large.count;
  if (idle || faster) return {kernels.small, kProductThreads, small, column_tiles};
  return {kernels.large, kProductThreads, large, column_tiles};
}

PatchVariant tensor_patch_variant(const PatchKernels& kernels, const FeatureMap<void>& strip, int64_t dilation,
                                  int wide_columns) {
  // Two narrow tiles read the map twice, but a wide one would be half empty.
  const bool narrow = strip.c <= wide_columns / 2;
  const int tile_columns = narrow ? kNarrowColumns : wide_columns;
  return {narrow ? kernels.tensor_narrow : kernels.tensor, static_cast<unsigned>(tensor_patch_threads(tile_columns)),
          make_patch_grid(strip.n, strip.h, strip.w, dilation, kTensorPatchHeight, kTensorPatchWidth),
          ceil_divide(strip.c, tile_columns)};
}

bool fit_tensor_patches(const FeatureMap<const void>& map, int64_t weights) {
  constexpr int64_t kMost = std::numeric_limits<int>::max();
  return std::max({map.h * map.w, map.pixel_stride, weights}) <= kMost;
}

}  // namespace ladderseg::cuda
