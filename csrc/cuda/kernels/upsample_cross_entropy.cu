// Cross entropy of upsampled logits, and its gradient: see ladderseg/upsample_cross_entropy.h.
//
// The kernels, in order of launch:
//   label_sums, label_totals        the total weight, from the labels alone: so the gradient is written once, scaled
//   cross_entropy_16, _19 and _32   loss and gradient, for up to so many classes (of double: cross_entropy_8), or
//   pixel_loss, cross_entropy_grad  the same for any number of classes, in groups
//   loss                            the sum of all blocks' losses
//
// Method of cross_entropy_*. A thread has one fine column and walks down the rows. In registers it keeps, per
// class, the logits of the two coarse rows around it, blended for its column, and the gradients of the same. So a fine
// pixel costs per class some 15 instructions, one of them ex2, and no memory access. When the walk passes a coarse row,
// that row's gradients (one per class and fine column) go to shared memory, and a warp per coarse column adds up the
// fine columns that read it, classes being the lanes: per class and fine column one read of shared memory for a coarse
// row, which at four times the size is a quarter per fine pixel. What is computed twice are the fine pixels at the left
// and upper edges of a tile, which its coarse pixels share with the neighbouring tiles: at four times the size, with
// tiles of 16 x 29 coarse pixels, 10% in all. (Adding parts of gradients across tiles would save that, but takes
// another pass; a tile of full-resolution gradients in shared memory takes four times its traffic; and atomics give up
// the fixed order.)
//
// With more classes than registers, pixel_loss leaves the maximum and the sum of the softmax of every pixel in memory
// (2 numbers, not K), and the same walk makes the gradient of one group of classes at a time.
#include "labels.cuh"
#include "pixel_tile.cuh"
#include "upsample_cross_entropy.h"
#include "upsampled_scores.cuh"

namespace ladderseg::cuda {

constexpr int kLabelThreads = 256;
constexpr int kLabelsPerThread = 16;  // summed as Reals; blocks of threads go on in double
constexpr int kTotalThreads = 256;
constexpr int kMostTileRows = 16;
constexpr int kLossRows = 16;                       // so many losses of a thread are summed as Reals
constexpr int kGroup = sizeof(Real) == 8 ? 8 : 20;  // classes at a time, where there are too many for registers

LADDERSEG_DEVICE void merge(double& sum, double other) { sum += other; }
LADDERSEG_DEVICE void merge(LabelSums& sums, const LabelSums& other) {
  sums.weight += other.weight;
  sums.first_invalid = smaller(sums.first_invalid, other.first_invalid);
}

// A sum over the block's threads, in a fixed order; the result is that of thread 0.
template <int threads, class T>
LADDERSEG_DEVICE T block_sum(T value, T* shared) {
  shared[threadIdx.x] = value;
  for (int half = threads / 2; half > 0; half /= 2) {
    __syncthreads();
    if (threadIdx.x < half) {
      merge(value, shared[threadIdx.x + half]);
      shared[threadIdx.x] = value;
    }
  }
  return value;
}

// Some labels of a thread.
struct LabelRun {
  Real weight;
  int64 first_invalid;

  LADDERSEG_DEVICE void add(const Labels<Real>& labels, int64 label, int64 pixel) {
    const int k = class_of(labels, label);
    if (k >= 0) weight += class_weight(labels, k);
    if (k == kInvalid) first_invalid = smaller(first_invalid, pixel);
  }
};

// A thread takes 16 bytes of labels, and so does the next; after kLabelsPerThread of them the block goes on.
template <class Label>
LADDERSEG_DEVICE LabelSums sum_labels(const LabelSumsArguments<Real>& args) {
  constexpr int pack = 16 / sizeof(Label), packs = kLabelsPerThread / pack;
  constexpr int64 block = kLabelThreads * kLabelsPerThread;
  const Label* const data = static_cast<const Label*>(args.labels.data);
  LabelSums sums = {0.0, kNoPixel};
  for (int64 begin = blockIdx.x * block; begin < args.labels.pixels; begin += gridDim.x * block) {
    LabelRun run = {Real(0), kNoPixel};
    if (args.wide && begin + block <= args.labels.pixels) {
#pragma unroll
      for (int i = 0; i < packs; ++i) {
        const int64 first = begin + (i * kLabelThreads + static_cast<int>(threadIdx.x)) * pack;
        union {
          uint4 words;
          Label labels[pack];
        } both;
        both.words = *reinterpret_cast<const uint4*>(data + first);
#pragma unroll
        for (int j = 0; j < pack; ++j) run.add(args.labels, both.labels[j], first + j);
      }
    } else {
      for (int i = 0; i < kLabelsPerThread; ++i) {
        const int64 p = begin + i * kLabelThreads + threadIdx.x;
        if (p < args.labels.pixels) run.add(args.labels, data[p], p);
      }
    }
    merge(sums, {static_cast<double>(run.weight), run.first_invalid});
  }
  return sums;
}

extern "C" __global__ void __launch_bounds__(kLabelThreads, 3)
    LADDERSEG_KERNEL(label_sums)(const LabelSumsArguments<Real> args) {
  __shared__ LabelSums shared[kLabelThreads];
  LabelSums sums;
  if (args.labels.type == 0)
    sums = sum_labels<unsigned char>(args);
  else if (args.labels.type == 1)
    sums = sum_labels<int>(args);
  else
    sums = sum_labels<int64>(args);
  sums = block_sum<kLabelThreads>(sums, shared);
  if (threadIdx.x == 0) args.sums[blockIdx.x] = sums;
}

extern "C" __global__ void __launch_bounds__(kTotalThreads)
    LADDERSEG_KERNEL(label_totals)(const LabelTotalsArguments args) {
  __shared__ LabelSums shared[kTotalThreads];
  LabelSums sums = {0.0, kNoPixel};
  for (int64 i = threadIdx.x; i < args.parts; i += kTotalThreads) merge(sums, args.sums[i]);
  sums = block_sum<kTotalThreads>(sums, shared);
  if (threadIdx.x != 0) return;
  const double weight = sums.weight == 0.0 ? 1.0 : sums.weight;
  *args.totals = {weight, 1.0 / weight};
  *args.invalid_pixel = sums.first_invalid == kNoPixel ? -1 : sums.first_invalid;
}

// The losses of a thread's pixels.
struct LossSum {
  double total;
  Real run;
  int rows;

  LADDERSEG_DEVICE void add(Real loss) { run += loss; }
  LADDERSEG_DEVICE void end_row() {
    if (++rows < kLossRows) return;
    total += static_cast<double>(run);
    run = Real(0);
    rows = 0;
  }
  LADDERSEG_DEVICE double result() const { return total + static_cast<double>(run); }
};

// Some classes: first .. first + count.
struct Classes {
  int first, count;
};

// Scores of a pixel become the terms exp(score - maximum) of its softmax, whose sum is returned. Of the kClasses,
// kAlways at least are in use; beyond `count` they are copies of the first.
template <int kAlways, int kClasses>
LADDERSEG_DEVICE Real softmax_terms(Real (&value)[kClasses], int count, int label, Real& maximum, Real& at_label) {
  maximum = at_label = value[0];
#pragma unroll
  for (int k = 1; k < kClasses; ++k) {
    maximum = larger(maximum, value[k]);
    at_label = k == label ? value[k] : at_label;
  }
  Real sum = Real(0);
#pragma unroll
  for (int k = 0; k < kClasses; ++k) {
    value[k] = exp_nonpositive(value[k] - maximum);
    if (k < kAlways || k < count) sum += value[k];
  }
  return sum;
}

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

// The walk of a block down its tile, for some classes. Loss and softmax are computed on the way (kWhole: these are all
// classes), or have been.
template <int kAlways, int kClasses, bool kWhole>
LADDERSEG_DEVICE void cross_entropy_tile(const UpsampleCrossEntropyArguments<Element, Real>& args, Classes classes,
                                         SharedTile<kClasses>& shared, LossSum& loss) {
  const Axis vertical = make_axis(args.logits.h, args.height), horizontal = make_axis(args.logits.w, args.width);
  const CoarseTile tile(args.tiles, vertical, horizontal);
  const bool want_grad = args.grad_logits.data != nullptr;
  const Real scale = want_grad ? static_cast<Real>(args.totals->scale) : Real(0);
  for (int i = threadIdx.x; i <= tile.end_column - tile.first_column + 1; i += kScoreThreads)
    shared.cells[i] = cell_begin(horizontal, tile.first_column - 1 + i);
  for (int i = threadIdx.x; i < kMostTileRows * kClasses; i += kScoreThreads)
    shared.sums[i / kClasses][i % kClasses] = Real(0);
  const int first_cell = max(tile.first_row - 1, 0);
  const auto stage = [&](int row) {
    stage_row(args.logits, tile.image, min(row, vertical.coarse - 1), tile.staged_column, tile.staged, classes.first,
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
    int64 next = (tile.image * args.height + y) * args.width + x;
    int next_label = active && y < vertical.fine ? class_at(args.labels, next) : kIgnored;
    for (int row = first_cell; row < tile.end_row; ++row) {
      __syncthreads();
      stage(row + 1);
      if (want_grad && row > tile.first_row)
        gather_row(args.grad_logits, tile, row - 1, x_begin, x_end, classes, scale, shared);
      __syncthreads();
      blend_column(shared.row, lower, upper, at.weight, b);
      const bool owned = row >= tile.first_row && at.lower >= tile.first_column;

      for (; y < vertical.fine; ++y) {
        const Position vertically = position(vertical, y);
        if (vertically.lower != row) break;
        const int label = next_label;
        const int64 here = next;
        next += args.width;
        next_label = active && y + 1 < vertical.fine ? class_at(args.labels, next) : kIgnored;
        if (label >= 0) {
          const Real weight = class_weight(args.labels, label);
          Real up = Real(1) - vertically.weight, down = vertically.weight;
          Real value[kClasses];
#pragma unroll
          for (int k = 0; k < kClasses; ++k) value[k] = blend(a[k], b[k], up, down);
          // The gradient of a score is (value - correction at the label), in the shares `up` and `down`.
          Real correction;
          if constexpr (kWhole) {
            Real maximum, at_label;
            correction = softmax_terms<kAlways>(value, classes.count, label, maximum, at_label);
            if (owned) loss.add(weight * (natural_log(correction) + (maximum - at_label)));
            const Real factor = weight / correction;
            up *= factor;
            down *= factor;
          } else {
            const PixelSoftmax<Real> softmax = args.softmax[here];
#pragma unroll
            for (int k = 0; k < kClasses; ++k) value[k] = exp_nonpositive(value[k] - softmax.maximum) * softmax.factor;
            correction = weight;
          }
          if (want_grad) {
#pragma unroll
            for (int k = 0; k < kClasses; ++k) {
              const Real difference = classes.first + k == label ? value[k] - correction : value[k];
              grad_a[k] = fused_multiply_add(up, difference, grad_a[k]);
              grad_b[k] = fused_multiply_add(down, difference, grad_b[k]);
            }
          }
        }
        if constexpr (kWhole) loss.end_row();
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
    if (want_grad) gather_row(args.grad_logits, tile, tile.end_row - 1, x_begin, x_end, classes, scale, shared);
    x_begin += kScoreThreads;
  } while (x_begin < tile.fine_end);

  if (!want_grad || !tile.several) return;
  __syncthreads();
  for (int i = threadIdx.x; i < (tile.end_row - tile.first_row) * kClasses; i += kScoreThreads) {
    const int row = i / kClasses, k = i % kClasses;
    const int64 p = (tile.image * args.logits.h + tile.first_row + row) * args.logits.w + tile.first_column;
    if (k < classes.count) args.grad_logits.pixel(p)[classes.first + k] = to_element(shared.sums[row][k] * scale);
  }
}

template <int kAlways, int kClasses>
LADDERSEG_DEVICE void cross_entropy(const UpsampleCrossEntropyArguments<Element, Real>& args) {
  __shared__ SharedTile<kClasses> shared;
  __shared__ double losses[kScoreThreads];
  LossSum loss = {};
  cross_entropy_tile<kAlways, kClasses, true>(args, {0, static_cast<int>(args.logits.c)}, shared, loss);
  const double sum = block_sum<kScoreThreads>(loss.result(), losses);
  if (threadIdx.x == 0) args.loss[blockIdx.x] = sum;
}

#if defined(LADDERSEG_ELEMENT_float64)
extern "C" __global__ void __launch_bounds__(kScoreThreads, 2)
    LADDERSEG_KERNEL(cross_entropy_8)(const UpsampleCrossEntropyArguments<Element, Real> args) {
  cross_entropy<1, 8>(args);
}
#else
extern "C" __global__ void __launch_bounds__(kScoreThreads, 3)
    LADDERSEG_KERNEL(cross_entropy_16)(const UpsampleCrossEntropyArguments<Element, Real> args) {
  cross_entropy<1, 16>(args);
}
extern "C" __global__ void __launch_bounds__(kScoreThreads, 3)
    LADDERSEG_KERNEL(cross_entropy_19)(const UpsampleCrossEntropyArguments<Element, Real> args) {
  cross_entropy<17, 19>(args);
}
extern "C" __global__ void __launch_bounds__(kScoreThreads, 2)
    LADDERSEG_KERNEL(cross_entropy_32)(const UpsampleCrossEntropyArguments<Element, Real> args) {
  cross_entropy<20, 32>(args);
}
#endif

// blockIdx.y chooses the classes.
extern "C" __global__ void __launch_bounds__(kScoreThreads, sizeof(Real) == 8 ? 2 : 3)
    LADDERSEG_KERNEL(cross_entropy_grad)(const UpsampleCrossEntropyArguments<Element, Real> args) {
  __shared__ SharedTile<kGroup> shared;
  const int first = static_cast<int>(blockIdx.y) * kGroup;
  LossSum unused = {};
  cross_entropy_tile<0, kGroup, false>(args, {first, min(kGroup, static_cast<int>(args.logits.c) - first)}, shared,
                                       unused);
}

// A softmax whose classes arrive in groups: exp(score - maximum) is summed with the largest score so far as maximum.
struct RunningSoftmax {
  Real maximum, sum, at_label;
  int label;

  LADDERSEG_DEVICE void add(const Real (&value)[kGroup], Classes classes) {
    Real highest = maximum;
#pragma unroll
    for (int k = 0; k < kGroup; ++k) highest = larger(highest, value[k]);
    // While all scores are minus infinity, their terms are zero.
    const Real offset = highest == -infinity() ? Real(0) : highest;
    sum *= exp_nonpositive(maximum - offset);
#pragma unroll
    for (int k = 0; k < kGroup; ++k) {
      if (k < classes.count) sum += exp_nonpositive(value[k] - offset);
      at_label = classes.first + k == label ? value[k] : at_label;
    }
    maximum = highest;
  }
  // As if there had been one group.
  LADDERSEG_DEVICE void finish() {
    if (maximum == -infinity()) sum = maximum - maximum;
  }
};

extern "C" __global__ void __launch_bounds__(kScoreThreads, 3)
    LADDERSEG_KERNEL(pixel_loss)(const PixelLossArguments<Element, Real> args) {
  __shared__ StagedRow<kGroup> above, below;
  __shared__ double losses[kScoreThreads];
  const FeatureMap<const Element>& logits = args.logits;
  const Axis vertical = make_axis(logits.h, args.height), horizontal = make_axis(logits.w, args.width);
  const PixelTile tile = pixel_tile(vertical, horizontal, args.tiles);
  const int row_below = min(tile.row + 1, vertical.coarse - 1), count = static_cast<int>(logits.c);
  LossSum loss = {};
  for (int y = tile.y_first; y < tile.y_end; y += tile.y_step) {
    const int64 first_pixel = (tile.image * args.height + y) * args.width + tile.x;
    RunningSoftmax softmax[kStripRows];
#pragma unroll
    for (int r = 0; r < kStripRows; ++r) {
      const bool counts = tile.active && y + r < tile.y_end;
      const int label = counts ? class_at(args.labels, first_pixel + r * args.width) : kIgnored;
      softmax[r] = {-infinity(), Real(0), Real(0), label};
    }
    for (int first = 0; first < count; first += kGroup) {
      const Classes classes = {first, min(kGroup, count - first)};
      __syncthreads();
      stage_row(logits, tile.image, tile.row, tile.column, tile.pixels, first, classes.count, above);
      stage_row(logits, tile.image, row_below, tile.column, tile.pixels, first, classes.count, below);
      __syncthreads();
      Real a[kGroup], b[kGroup];
      blend_column(above, tile.lower, tile.upper, tile.right, a);
      blend_column(below, tile.lower, tile.upper, tile.right, b);
#pragma unroll
      for (int r = 0; r < kStripRows; ++r) {
        const Real down = position(vertical, min(y + r, tile.y_end - 1)).weight, up = Real(1) - down;
        Real value[kGroup];
#pragma unroll
        for (int k = 0; k < kGroup; ++k) value[k] = blend(a[k], b[k], up, down);
        softmax[r].add(value, classes);
      }
    }
#pragma unroll
    for (int r = 0; r < kStripRows; ++r) {
      RunningSoftmax& pixel = softmax[r];
      PixelSoftmax<Real> result = {};
      if (pixel.label >= 0) {
        pixel.finish();
        const Real weight = class_weight(args.labels, pixel.label);
        loss.add(weight * (natural_log(pixel.sum) + (pixel.maximum - pixel.at_label)));
        result = {pixel.maximum, weight / pixel.sum};
      }
      loss.end_row();
      if (args.softmax && tile.active && y + r < tile.y_end) args.softmax[first_pixel + r * args.width] = result;
    }
  }
  const double sum = block_sum<kScoreThreads>(loss.result(), losses);
  if (threadIdx.x == 0) args.loss[blockIdx.x] = sum;
}

// A label that is no class cannot be reported from here, so it makes the loss NaN.
extern "C" __global__ void __launch_bounds__(kTotalThreads) LADDERSEG_KERNEL(loss)(const LossArguments args) {
  __shared__ double shared[kTotalThreads];
  double sum = 0.0;
  for (int64 i = threadIdx.x; i < args.count; i += kTotalThreads) sum += args.parts[i];
  sum = block_sum<kTotalThreads>(sum, shared);
  if (threadIdx.x != 0) return;
  const double nan = static_cast<double>(infinity() - infinity());
  *args.loss = *args.invalid_pixel >= 0 ? nan : sum / args.totals->weight;
}

}  // namespace ladderseg::cuda
