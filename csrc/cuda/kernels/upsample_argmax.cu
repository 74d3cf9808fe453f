// Labels at full resolution from class scores at low resolution: see ladderseg/upsample_argmax.h.
//
// Only the best score so far is kept at full resolution. Classes come in groups that fit into registers
// (one group, for up to 20 classes of float), and kStripRows fine rows are compared per group.
#include "pixel_tile.cuh"
#include "upsample_argmax.h"

namespace ladderseg::cuda {

constexpr int kClasses = sizeof(Real) == 8 ? 8 : 20;

// The first NaN beats everything; of equal scores the first wins.
LADDERSEG_DEVICE void compare(Real value, int k, Real& best, int& label) {
  const bool better = value > best || (value != value && best == best);
  best = better ? value : best;
  label = better ? k : label;
}

extern "C" __global__ void __launch_bounds__(kScoreThreads, 4)
    LADDERSEG_KERNEL(upsample_argmax)(const UpsampleArgmaxArguments<Element> args) {
  __shared__ StagedRow<kClasses> above, below;
  const FeatureMap<const Element>& scores = args.scores;
  const Axis vertical = make_axis(scores.h, args.height, args.align_corners != 0);
  const Axis horizontal = make_axis(scores.w, args.width, args.align_corners != 0);
  const PixelTile tile = pixel_tile(vertical, horizontal, args.tiles);
  const int row_below = min(tile.row + 1, vertical.coarse - 1);
  const int classes = static_cast<int>(scores.c);

  for (int y = tile.y_first; y < tile.y_end; y += tile.y_step) {
    Real best[kStripRows];
    int label[kStripRows];
#pragma unroll
    for (int r = 0; r < kStripRows; ++r) {
      best[r] = -infinity();
      label[r] = 0;
    }
    for (int first = 0; first < classes; first += kClasses) {
      const int count = min(kClasses, classes - first);
      __syncthreads();
      stage_row(scores, tile.image, tile.row, tile.column, tile.pixels, first, count, above);
      stage_row(scores, tile.image, row_below, tile.column, tile.pixels, first, count, below);
      __syncthreads();
      Real a[kClasses], b[kClasses];
      blend_column(above, tile.lower, tile.upper, tile.right, a);
      blend_column(below, tile.lower, tile.upper, tile.right, b);
#pragma unroll
      for (int r = 0; r < kStripRows; ++r) {
        const Real down = position(vertical, min(y + r, tile.y_end - 1)).weight, up = Real(1) - down;
#pragma unroll
        for (int k = 0; k < kClasses; ++k) compare(blend(a[k], b[k], up, down), first + k, best[r], label[r]);
      }
    }
    if (!tile.active) continue;
#pragma unroll
    for (int r = 0; r < kStripRows; ++r) {
      if (y + r < tile.y_end)
        args.labels[(tile.image * args.height + y + r) * args.width + tile.x] = static_cast<unsigned char>(label[r]);
    }
  }
}

}  // namespace ladderseg::cuda
