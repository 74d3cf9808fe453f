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
#include "coarse_walk.cuh"
#include "loss_sums.cuh"
#include "pixel_tile.cuh"
#include "upsample_cross_entropy.h"

namespace ladderseg::cuda {

constexpr int kLabelThreads = 256;
constexpr int kLabelsPerThread = 16;  // summed as Reals; blocks of threads go on in double
constexpr int kTotalThreads = 256;

LADDERSEG_DEVICE void merge(LabelSums& sums, const LabelSums& other) {
  sums.weight += other.weight;
  sums.first_invalid = smaller(sums.first_invalid, other.first_invalid);
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
  const double weight = !args.mean || sums.weight == 0.0 ? 1.0 : sums.weight;
  *args.totals = {weight, 1.0 / weight};
  *args.invalid_pixel = sums.first_invalid == kNoPixel ? -1 : sums.first_invalid;
}

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

// Loss and gradient of a pixel with all its classes in registers.
template <int kAlways>
struct WholePixel {
  const Labels<Real>& labels;
  int count;
  LossSum loss;

  template <int kClasses>
  LADDERSEG_DEVICE Real gradient(int label, int64, bool owned, Real& up, Real& down, Real (&value)[kClasses]) {
    const Real weight = class_weight(labels, label);
    Real maximum, at_label;
    const Real sum = softmax_terms<kAlways>(value, count, label, maximum, at_label);
    if (owned) loss.add(weight * (natural_log(sum) + (maximum - at_label)));
    const Real factor = weight / sum;
    up *= factor;
    down *= factor;
    return sum;
  }
  LADDERSEG_DEVICE void end_row() { loss.end_row(); }
};

// Gradient of a pixel for some classes of a known softmax.
struct KnownSoftmax {
  const Labels<Real>& labels;
  const PixelSoftmax<Real>* softmax;

  template <int kClasses>
  LADDERSEG_DEVICE Real gradient(int label, int64 here, bool, Real&, Real&, Real (&value)[kClasses]) {
    const PixelSoftmax<Real> pixel = softmax[here];
#pragma unroll
    for (int k = 0; k < kClasses; ++k) value[k] = exp_nonpositive(value[k] - pixel.maximum) * pixel.factor;
    return class_weight(labels, label);
  }
  LADDERSEG_DEVICE void end_row() {}
};

template <int kClasses, class Pixel>
LADDERSEG_DEVICE void walk_tile(const UpsampleCrossEntropyArguments<Element, Real>& args, Classes classes,
                                SharedTile<kClasses>& shared, Pixel& pixel) {
  const Real scale = args.grad_logits.data ? static_cast<Real>(args.totals->scale) : Real(0);
  walk_tile(args.logits, args.labels, args.height, args.width, args.grad_logits, args.tiles,
            make_axis(args.logits.h, args.height), make_axis(args.logits.w, args.width), classes, scale, shared, pixel);
}

template <int kAlways, int kClasses>
LADDERSEG_DEVICE void cross_entropy(const UpsampleCrossEntropyArguments<Element, Real>& args) {
  __shared__ SharedTile<kClasses> shared;
  __shared__ double losses[kScoreThreads];
  const int count = static_cast<int>(args.logits.c);
  WholePixel<kAlways> pixel = {args.labels, count, {}};
  walk_tile(args, {0, count}, shared, pixel);
  const double sum = block_sum<kScoreThreads>(pixel.loss.result(), losses);
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
  KnownSoftmax pixel = {args.labels, args.softmax};
  walk_tile(args, {first, min(kGroup, static_cast<int>(args.logits.c) - first)}, shared, pixel);
}

extern "C" __global__ void __launch_bounds__(kScoreThreads, 3)
    LADDERSEG_KERNEL(pixel_loss)(const PixelLossArguments<Element, Real> args) {
  __shared__ StagedRow<kGroup> above, below;
  __shared__ double losses[kScoreThreads];
  const FeatureMap<const Element>& logits = args.logits;
  const Axis vertical = make_axis(logits.h, args.height), horizontal = make_axis(logits.w, args.width);
  const PixelTile tile = pixel_tile(vertical, horizontal, args.tiles);
  const int row_below = min(tile.row + 1, vertical.coarse - 1), count = static_cast<int>(logits.c);
  NoOtherSums others;
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
        softmax[r].add(value, classes, others);
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
