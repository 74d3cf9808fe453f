// The losses of pixels with upsampled logits, sums of their softmax, and all gradients that upsample_cross_entropy.cu
// does not have: see ladderseg/upsample_cross_entropy.h.
//
// The kernels, in order of launch:
//   pixel_losses                the loss of every pixel, and the maximum and the sum of its softmax
//   loss_totals                 the sums over all blocks
//   class_sums, class_totals    sums of the softmax by class, from what pixel_losses left, or
//   pixel_gradient              the gradient, likewise
//
// All take any number of classes, in groups. What pixel_losses leaves at full resolution are three numbers a pixel.
#include "coarse_walk.cuh"
#include "loss_sums.cuh"
#include "pixel_tile.cuh"
#include "upsample_pixel_losses.h"

namespace ladderseg::cuda {

constexpr int kTotalThreads = 256;

LADDERSEG_DEVICE void merge(LossSums& sums, const LossSums& other) {
  sums.loss += other.loss;
  sums.weight += other.weight;
  sums.first_invalid = smaller(sums.first_invalid, other.first_invalid);
}

LADDERSEG_DEVICE Axis vertical_axis(const ScoresArguments<Element, Real>& scores) {
  return make_axis(scores.logits.h, scores.height, scores.align_corners != 0);
}
LADDERSEG_DEVICE Axis horizontal_axis(const ScoresArguments<Element, Real>& scores) {
  return make_axis(scores.logits.w, scores.width, scores.align_corners != 0);
}

// What label smoothing gives to a class.
LADDERSEG_DEVICE Real smoothing_share(const ScoresArguments<Element, Real>& scores, int k) {
  return static_cast<Real>(scores.smoothing_share * static_cast<double>(class_weight(scores.labels, k)));
}

LADDERSEG_DEVICE Real pixel_weight(const WeightingArguments<Real>& weighting, int64 pixel) {
  return weighting.pixel_weights ? weighting.pixel_weights[weighting.one_weight ? 0 : pixel] : Real(1);
}

// What a class has in common for all pixels of an image.
struct ClassValues {
  Real shares[kGroup];     // smoothing_share
  Real predicted[kGroup];  // grad_class_sums[n, 0, :]

  LADDERSEG_DEVICE void fill(const ScoresArguments<Element, Real>& scores, const Real* grad_class_sums, int64 image,
                             Classes classes) {
    const int i = threadIdx.x, k = classes.first + i;
    if (i >= kGroup) return;
    const bool exists = i < classes.count;
    shares[i] = exists && scores.label_smoothing != 0.0 ? smoothing_share(scores, k) : Real(0);
    predicted[i] = exists && grad_class_sums ? grad_class_sums[image * 3 * scores.labels.classes + k] : Real(0);
  }
};

// Sums over the classes of a pixel beside that of the softmax's terms. Scores count from the largest, so that large
// ones do not cancel each other.
struct OtherSums {
  const ClassValues& of;
  bool smoothing;
  Real predicted;  // terms times `predicted`
  Real distances;  // distances of the scores from the largest, times shares
  Real shares;

  LADDERSEG_DEVICE void rebase(Real factor, Real rise) {
    predicted *= factor;
    if (smoothing) distances = fused_multiply_add(shares, rise, distances);
  }
  LADDERSEG_DEVICE void add(int k, Real term, Real score) {
    predicted = fused_multiply_add(term, of.predicted[k], predicted);
    if (smoothing) {
      distances = fused_multiply_add(of.shares[k], -score, distances);
      shares += of.shares[k];
    }
  }
};

extern "C" __global__ void __launch_bounds__(kScoreThreads, 2)
    LADDERSEG_KERNEL(pixel_losses)(const PixelLossesArguments<Element, Real> args) {
  __shared__ StagedRow<kGroup> above, below;
  __shared__ ClassValues values;
  __shared__ LossSums block_sums[kScoreThreads];
  const ScoresArguments<Element, Real>& scores = args.scores;
  const FeatureMap<const Element>& logits = scores.logits;
  const Real* const grad_class_sums = args.weighting.grad_class_sums;
  const Axis vertical = vertical_axis(scores), horizontal = horizontal_axis(scores);
  const PixelTile tile = pixel_tile(vertical, horizontal, args.tiles);
  const int row_below = min(tile.row + 1, vertical.coarse - 1), count = static_cast<int>(logits.c);
  const bool smoothing = scores.label_smoothing != 0.0;
  const Real kept = static_cast<Real>(1.0 - scores.label_smoothing);
  LossSums sums = {0.0, 0.0, kNoPixel};

  for (int y = tile.y_first; y < tile.y_end; y += tile.y_step) {
    const int64 first_pixel = (tile.image * scores.height + y) * scores.width + tile.x;
    RunningSoftmax softmax[kStripRows];
    Real predicted[kStripRows], smoothed[kStripRows], shares = Real(0);
#pragma unroll
    for (int r = 0; r < kStripRows; ++r) {
      const bool counts = tile.active && y + r < tile.y_end;
      const int label = counts ? class_at(scores.labels, first_pixel + r * scores.width) : kIgnored;
      if (label == kInvalid) sums.first_invalid = smaller(sums.first_invalid, first_pixel + r * scores.width);
      softmax[r] = {-infinity(), Real(0), Real(0), label};
      predicted[r] = smoothed[r] = Real(0);
    }
    for (int first = 0; first < count; first += kGroup) {
      const Classes classes = {first, min(kGroup, count - first)};
      __syncthreads();
      values.fill(scores, grad_class_sums, tile.image, classes);
      stage_row(logits, tile.image, tile.row, tile.column, tile.pixels, first, classes.count, above);
      stage_row(logits, tile.image, row_below, tile.column, tile.pixels, first, classes.count, below);
      __syncthreads();
      Real a[kGroup], b[kGroup];
      blend_column(above, tile.lower, tile.upper, tile.right, a);
      blend_column(below, tile.lower, tile.upper, tile.right, b);
      Real shares_before = shares;
#pragma unroll
      for (int r = 0; r < kStripRows; ++r) {
        const Real down = position(vertical, min(y + r, tile.y_end - 1)).weight, up = Real(1) - down;
        Real value[kGroup];
#pragma unroll
        for (int k = 0; k < kGroup; ++k) value[k] = blend(a[k], b[k], up, down);
        OtherSums others = {values, smoothing, predicted[r], smoothed[r], shares_before};
        softmax[r].add(value, classes, others);
        predicted[r] = others.predicted;
        smoothed[r] = others.distances;
        shares = others.shares;
      }
    }
#pragma unroll
    for (int r = 0; r < kStripRows; ++r) {
      RunningSoftmax& pixel = softmax[r];
      if (!tile.active || y + r >= tile.y_end) continue;
      const int64 here = first_pixel + r * scores.width;
      Real loss = Real(0);
      PixelTerms<Real> terms = {};
      if (pixel.label >= 0) {
        pixel.finish();
        const Real class_of_label = class_weight(scores.labels, pixel.label),
                   weight = pixel_weight(args.weighting, here);
        const Real at_label = kept * class_of_label, total = at_label + shares;
        const Real logarithm = natural_log(pixel.sum);
        loss = at_label * (logarithm + (pixel.maximum - pixel.at_label));
        if (smoothing) loss += fused_multiply_add(shares, logarithm, smoothed[r]);
        if (weight != Real(0)) {
          sums.loss += static_cast<double>(weight) * static_cast<double>(loss);
          sums.weight += static_cast<double>(weight) * static_cast<double>(class_of_label);
        }
        const Real inverse = Real(1) / pixel.sum;
        terms = {pixel.maximum, inverse, weight * total};
        if (grad_class_sums) {
          const int64 intersection = (tile.image * 3 + 1) * logits.c + pixel.label;
          const Real of_label = exp_nonpositive(pixel.at_label - pixel.maximum) * grad_class_sums[intersection];
          terms.mass -= (predicted[r] + of_label) * inverse;
        }
      }
      if (args.losses) args.losses[here] = loss;
      if (args.terms) args.terms[here] = terms;
    }
  }
  sums = block_sum<kScoreThreads>(sums, block_sums);
  if (threadIdx.x == 0) args.sums[blockIdx.x] = sums;
}

// A label that is no class cannot be reported from here, so it makes the loss NaN.
extern "C" __global__ void __launch_bounds__(kTotalThreads)
    LADDERSEG_KERNEL(loss_totals)(const LossTotalsArguments args) {
  __shared__ LossSums shared[kTotalThreads];
  LossSums sums = {0.0, 0.0, kNoPixel};
  for (int64 i = threadIdx.x; i < args.count; i += kTotalThreads) merge(sums, args.sums[i]);
  sums = block_sum<kTotalThreads>(sums, shared);
  if (threadIdx.x != 0) return;
  const bool valid = sums.first_invalid == kNoPixel;
  const double weight = !args.mean || sums.weight == 0.0 ? 1.0 : sums.weight;
  *args.totals = {weight, 1.0 / weight};
  *args.loss = valid ? sums.loss / weight : static_cast<double>(infinity() - infinity());
  if (args.weight) *args.weight = sums.weight;
  *args.invalid_pixel = valid ? -1 : sums.first_invalid;
}

// The gradient of a pixel for some classes of a known softmax.
struct WeightedPixel {
  const PixelGradientArguments<Element, Real>& args;
  const ClassValues& values;
  int first;                 // of the classes
  Real kept;                 // 1 - label_smoothing
  const Real* intersection;  // grad_class_sums[n, 1, :], or none

  template <int kClasses>
  LADDERSEG_DEVICE Real gradient(int label, int64 here, bool, Real&, Real&, Real (&value)[kClasses]) {
    const PixelTerms<Real> pixel = args.terms[here];
    const Real weight = pixel_weight(args.weighting, here);
    const bool counts = weight != Real(0) || intersection;  // if not, it adds nothing, whatever its scores
    const Real of_label = intersection ? intersection[label] : Real(0);
    const Real target = weight * (kept * class_weight(args.scores.labels, label));
    asm volatile("" ::: "memory");  // `values` are read for every pixel: all in registers, they would not fit there
#pragma unroll
    for (int k = 0; k < kClasses; ++k) {
      const bool is_label = first + k == label;
      const Real softmax = exp_nonpositive(value[k] - pixel.maximum) * pixel.inverse;
      const Real mass = pixel.mass + values.predicted[k];
      const Real gradient = softmax * (is_label ? mass + of_label : mass) - weight * values.shares[k];
      value[k] = counts ? is_label ? gradient - target : gradient : Real(0);
    }
    return Real(0);
  }
  LADDERSEG_DEVICE void end_row() {}
};

// blockIdx.y chooses the classes.
extern "C" __global__ void __launch_bounds__(kScoreThreads, 2)
    LADDERSEG_KERNEL(pixel_gradient)(const PixelGradientArguments<Element, Real> args) {
  __shared__ SharedTile<kGroup> shared;
  __shared__ ClassValues values;
  const ScoresArguments<Element, Real>& scores = args.scores;
  const int first = static_cast<int>(blockIdx.y) * kGroup;
  const Classes classes = {first, min(kGroup, static_cast<int>(scores.logits.c) - first)};
  const int64 image = blockIdx.x / (args.tiles.column_tiles * args.tiles.row_tiles);
  const Real* const gradients = args.weighting.grad_class_sums;
  values.fill(scores, gradients, image, classes);
  WeightedPixel pixel = {args, values, first, static_cast<Real>(1.0 - scores.label_smoothing),
                         gradients ? gradients + (image * 3 + 1) * scores.logits.c : nullptr};
  walk_tile(scores.logits, scores.labels, scores.height, scores.width, args.grad_logits, args.tiles,
            vertical_axis(scores), horizontal_axis(scores), classes, static_cast<Real>(args.totals->scale), shared,
            pixel);
}

// Sums of a class over the block's threads, in a fixed order: those of a quarter of the threads, then those.
constexpr int kQuarters = 4;

struct SharedClassSums {
  Real of_thread[kGroup][kScoreThreads + 1];
  double of_quarter[kGroup][kQuarters];
};

LADDERSEG_DEVICE void sum_classes(const Real (&values)[kGroup], int count, double* to, SharedClassSums& shared) {
  __syncthreads();
#pragma unroll
  for (int k = 0; k < kGroup; ++k) shared.of_thread[k][threadIdx.x] = values[k];
  __syncthreads();
  constexpr int share = kScoreThreads / kQuarters;
  const int k = threadIdx.x / kQuarters, quarter = threadIdx.x % kQuarters;
  if (k < kGroup) {
    double sum = 0.0;
    for (int i = quarter * share; i < (quarter + 1) * share; ++i) sum += static_cast<double>(shared.of_thread[k][i]);
    shared.of_quarter[k][quarter] = sum;
  }
  __syncthreads();
  if (threadIdx.x >= count) return;
  double sum = 0.0;
  for (int i = 0; i < kQuarters; ++i) sum += shared.of_quarter[threadIdx.x][i];
  to[threadIdx.x] = sum;
}

extern "C" __global__ void __launch_bounds__(kScoreThreads, sizeof(Real) == 8 ? 2 : 3)
    LADDERSEG_KERNEL(class_sums)(const ClassSumsArguments<Element, Real> args) {
  __shared__ StagedRow<kGroup> above, below;
  __shared__ SharedClassSums shared;
  const ScoresArguments<Element, Real>& scores = args.scores;
  const FeatureMap<const Element>& logits = scores.logits;
  const Axis vertical = vertical_axis(scores), horizontal = horizontal_axis(scores);
  const PixelTile tile = pixel_tile(vertical, horizontal, args.tiles);
  const int first = static_cast<int>(blockIdx.y) * kGroup, count = min(kGroup, static_cast<int>(logits.c) - first);
  stage_row(logits, tile.image, tile.row, tile.column, tile.pixels, first, count, above);
  stage_row(logits, tile.image, min(tile.row + 1, vertical.coarse - 1), tile.column, tile.pixels, first, count, below);
  __syncthreads();
  Real a[kGroup], b[kGroup], predicted[kGroup], intersection[kGroup], labelled[kGroup];
  blend_column(above, tile.lower, tile.upper, tile.right, a);
  blend_column(below, tile.lower, tile.upper, tile.right, b);
#pragma unroll
  for (int k = 0; k < kGroup; ++k) predicted[k] = intersection[k] = labelled[k] = Real(0);

  for (int strip = tile.y_first; strip < tile.y_end; strip += tile.y_step) {
    const int end = min(strip + kStripRows, tile.y_end);
    for (int y = strip; y < end && tile.active; ++y) {
      const int64 here = (tile.image * scores.height + y) * scores.width + tile.x;
      const int label = class_at(scores.labels, here);
      if (label < 0) continue;
      const PixelTerms<Real> terms = args.terms[here];
      const Real down = position(vertical, y).weight, up = Real(1) - down;
#pragma unroll
      for (int k = 0; k < kGroup; ++k) {
        const bool is_label = first + k == label;
        const Real softmax = exp_nonpositive(blend(a[k], b[k], up, down) - terms.maximum) * terms.inverse;
        predicted[k] += softmax;
        intersection[k] += is_label ? softmax : Real(0);
        labelled[k] += is_label ? Real(1) : Real(0);
      }
    }
  }
  double* const to = args.parts + static_cast<int64>(blockIdx.x) * 3 * logits.c + first;
  sum_classes(predicted, count, to, shared);
  sum_classes(intersection, count, to + logits.c, shared);
  sum_classes(labelled, count, to + 2 * logits.c, shared);
}

// blockIdx.y is the image.
extern "C" __global__ void __launch_bounds__(kTotalThreads)
    LADDERSEG_KERNEL(class_totals)(const ClassTotalsArguments args) {
  const int64 i = static_cast<int64>(blockIdx.x) * kTotalThreads + threadIdx.x;
  if (i >= args.count) return;
  const double* from = args.parts + static_cast<int64>(blockIdx.y) * args.parts_per_image * args.count + i;
  double sum = 0.0;
  for (int64 part = 0; part < args.parts_per_image; ++part, from += args.count) sum += *from;
  args.class_sums[blockIdx.y * args.count + i] = sum;
}

}  // namespace ladderseg::cuda
