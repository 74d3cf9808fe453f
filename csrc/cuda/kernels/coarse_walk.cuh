// Gradients of coarse scores from those of fine pixels, which are computed on the way: see upsample_cross_entropy.cu.
#pragma once

#include "labels.cuh"
#include "running_softmax.cuh"
#include "score_tiles.h"
#include "upsampled_scores.cuh"

namespace ladderseg::cuda {

constexpr int kMostTileRows = 16;

// The coarse pixels of a block of CoarseTiles, and the fine columns that read them. Cells are those of bilinear.cuh:
// fine rows or columns with the same lower neighbour.
struct CoarseTile {
  int64 image;
  int first_row, end_row, first_column, end_column;
  int staged_column, staged;  // coarse columns that its fine columns read
  int fine_begin, fine_end;
  bool several;  // more fine columns than threads, so it takes several passes; there is one coarse column then

  LADDERSEG_DEVICE CoarseTile(const CoarseTiles& tiles, const Axis& vertical, const Axis& horizontal) {
    const int64 group = blockIdx.x / tiles.column_tiles;
    image = group / tiles.row_tiles;
    first_row = static_cast<int>((group - image * tiles.row_tiles) * tiles.rows);
    end_row = static_cast<int>(smaller(first_row + tiles.rows, vertical.coarse));
    first_column = static_cast<int>((blockIdx.x - group * tiles.column_tiles) * tiles.columns);
    end_column = static_cast<int>(smaller(first_column + tiles.columns, horizontal.coarse));
    staged_column = max(first_column - 1, 0);
    staged = min(end_column + 1, horizontal.coarse) - staged_column;
    fine_begin = cell_begin(horizontal, first_column - 1);
    fine_end = cell_begin(horizontal, end_column);
    several = fine_end - fine_begin > kScoreThreads;
  }
};

template <int kClasses>
struct SharedTile {
  StagedRow<kClasses> row;
  Real gradients[kClasses][kScoreThreads + 1];  // of a coarse row, by fine column; odd, as a gather's lanes are classes
  Real right[kScoreThreads];                    // the fine columns' weights
  int cells[kStagedPixels];                     // where the cells of columns first_column - 1 .. end_column begin
  Real sums[kMostTileRows][kClasses];           // where there are several passes: the gradients of the coarse column
};

// The gradients of a coarse row from those of the fine columns x_begin .. x_end. A warp has some neighbouring coarse
// columns, its lanes the classes. A cell is read once, for the coarse columns at its left and its right.
template <int kClasses>
LADDERSEG_DEVICE void gather_row(const FeatureMap<Element>& grad, const CoarseTile& tile, int row, int x_begin,
                                 int x_end, Classes classes, Real scale, SharedTile<kClasses>& shared) {
  const int warp = threadIdx.x / 32, k = threadIdx.x % 32;
  const int share = (tile.end_column - tile.first_column + kScoreWarps - 1) / kScoreWarps;
  const int begin = tile.first_column + warp * share, end = min(begin + share, tile.end_column);
  if (k >= classes.count || begin >= end) return;
  Element* to = grad.pixel((tile.image * grad.h + row) * grad.w + begin) + classes.first + k;
  const int* const cells = shared.cells - (tile.first_column - 1);
  Real carried = Real(0);
  for (int j = begin - 1; j < end; ++j) {
    const int cell_end = min(cells[j + 1], x_end) - x_begin;
    Real left = Real(0), right = Real(0);
#pragma unroll 4
    for (int x = max(cells[j], x_begin) - x_begin; x < cell_end; ++x) {
      const Real value = shared.gradients[k][x], weight = shared.right[x];
      left = fused_multiply_add(Real(1) - weight, value, left);
      right = fused_multiply_add(weight, value, right);
    }
    if (j == grad.w - 1) left += right;  // both neighbours are the last column
    if (j >= begin && tile.several) shared.sums[row - tile.first_row][k] += carried + left;
    if (j >= begin && !tile.several) {
      *to = to_element((carried + left) * scale);
      to += grad.pixel_stride;
    }
    carried = right;
  }
}

// The walk of a block down its tile, for some classes. At every fine pixel that counts, with its `label`:
//
//   pixel.gradient(label, here, owned, up, down, value) makes of the scores `value` of the pixel with the number `here`
//   their gradients, but for what it returns: that is to be taken off at the label. It may change the shares `up` and
//   `down`, which the two coarse rows get. `owned` pixels are visited by no other block.
//
// pixel.end_row() follows every fine row. The gradients are multiplied by `scale`.
template <int kClasses, class Pixel>
LADDERSEG_DEVICE void walk_tile(const FeatureMap<const Element>& logits, const Labels<Real>& labels, int64 height,
                                int64 width, const FeatureMap<Element>& grad_logits, const CoarseTiles& tiles,
                                const Axis& vertical, const Axis& horizontal, Classes classes, Real scale,
                                SharedTile<kClasses>& shared, Pixel& pixel) {
  const CoarseTile tile(tiles, vertical, horizontal);
  const bool want_grad = grad_logits.data != nullptr;
  for (int i = threadIdx.x; i <= tile.end_column - tile.first_column + 1; i += kScoreThreads)
    shared.cells[i] = cell_begin(horizontal, tile.first_column - 1 + i);
  for (int i = threadIdx.x; i < kMostTileRows * kClasses; i += kScoreThreads)
    shared.sums[i / kClasses][i % kClasses] = Real(0);
  const int first_cell = max(tile.first_row - 1, 0);
  const auto stage = [&](int row) {
    stage_row(logits, tile.image, min(row, vertical.coarse - 1), tile.staged_column, tile.staged, classes.first,
              classes.count, shared.row);
  };

  int x_begin = tile.fine_begin;
  do {
    const int x_end = min(x_begin + kScoreThreads, tile.fine_end), x = x_begin + static_cast<int>(threadIdx.x);
    const bool active = x < x_end;
    const Position at = position(horizontal, active ? x : 0);
    const int lower = active ? at.lower - tile.staged_column : 0, upper = active ? at.upper - tile.staged_column : 0;
    // Logits and gradients of coarse rows `row` (a) and `row + 1` (b) at this column.
    Real a[kClasses], b[kClasses], grad_a[kClasses], grad_b[kClasses];
#pragma unroll
    for (int k = 0; k < kClasses; ++k) grad_a[k] = grad_b[k] = Real(0);
    __syncthreads();
    shared.right[threadIdx.x] = at.weight;
    stage(first_cell);
    __syncthreads();
    blend_column(shared.row, lower, upper, at.weight, a);

    int y = cell_begin(vertical, first_cell);
    int64 next = (tile.image * height + y) * width + x;
    int next_label = active && y < vertical.fine ? class_at(labels, next) : kIgnored;
    for (int row = first_cell; row < tile.end_row; ++row) {
      __syncthreads();
      stage(row + 1);
      if (want_grad && row > tile.first_row)
        gather_row(grad_logits, tile, row - 1, x_begin, x_end, classes, scale, shared);
      __syncthreads();
      blend_column(shared.row, lower, upper, at.weight, b);
      const bool owned = row >= tile.first_row && at.lower >= tile.first_column;

      for (; y < vertical.fine; ++y) {
        const Position vertically = position(vertical, y);
        if (vertically.lower != row) break;
        const int label = next_label;
        const int64 here = next;
        next += width;
        next_label = active && y + 1 < vertical.fine ? class_at(labels, next) : kIgnored;
        if (label >= 0) {
          Real up = Real(1) - vertically.weight, down = vertically.weight;
          Real value[kClasses];
#pragma unroll
          for (int k = 0; k < kClasses; ++k) value[k] = blend(a[k], b[k], up, down);
          const Real correction = pixel.gradient(label, here, owned, up, down, value);
          if (want_grad) {
#pragma unroll
            for (int k = 0; k < kClasses; ++k) {
              const Real difference = classes.first + k == label ? value[k] - correction : value[k];
              grad_a[k] = fused_multiply_add(up, difference, grad_a[k]);
              grad_b[k] = fused_multiply_add(down, difference, grad_b[k]);
            }
          }
        }
        pixel.end_row();
      }

      const bool last = row == vertical.coarse - 1;  // both neighbours of its cell are the last row
#pragma unroll
      for (int k = 0; k < kClasses; ++k) {
        if (want_grad && row >= tile.first_row)
          shared.gradients[k][threadIdx.x] = last ? grad_a[k] + grad_b[k] : grad_a[k];
        a[k] = b[k];
        grad_a[k] = grad_b[k];
        grad_b[k] = Real(0);
      }
    }
    __syncthreads();
    if (want_grad) gather_row(grad_logits, tile, tile.end_row - 1, x_begin, x_end, classes, scale, shared);
    x_begin += kScoreThreads;
  } while (x_begin < tile.fine_end);

  if (!want_grad || !tile.several) return;
  __syncthreads();
  for (int i = threadIdx.x; i < (tile.end_row - tile.first_row) * kClasses; i += kScoreThreads) {
    const int row = i / kClasses, k = i % kClasses;
    const int64 p = (tile.image * logits.h + tile.first_row + row) * logits.w + tile.first_column;
    if (k < classes.count) grad_logits.pixel(p)[classes.first + k] = to_element(shared.sums[row][k] * scale);
  }
}

}  // namespace ladderseg::cuda
