// Arguments of the kernels in upsample_pixel_losses.cu; the operators are those of ladderseg/upsample_cross_entropy.h.
#pragma once

#include "upsample_cross_entropy.h"

namespace ladderseg::cuda {

// The core's LabelledScores.
template <class T, class R>
struct ScoresArguments {
  FeatureMap<const T> logits;
  Labels<R> labels;
  int64 height, width;
  int align_corners;
  double label_smoothing, smoothing_share;  // the second is the first, divided by the number of classes
};

// What weights the losses of pixels, and what else the gradient is of.
template <class R>
struct WeightingArguments {
  const R* pixel_weights;    // [N, H, W], or one, or none
  int one_weight;            // whether it is one
  const R* grad_class_sums;  // [N, 3, K] or none
};

// A pixel's softmax is exp(score - maximum) * inverse. The gradient of its scores is
//
//   softmax[k] * (mass + grad_class_sums[n, 0, k]) - pixel_weight * target[k],
//
// and at the label softmax * grad_class_sums[n, 1, label] more.
template <class R>
struct PixelTerms {
  R maximum, inverse, mass;
};
template <>
struct PixelTerms<void>;  // has only an address

// Sums over the pixels of a block.
struct LossSums {
  double loss, weight;  // of the losses, times the pixels' weights
  int64 first_invalid;
};

template <class T, class R>
struct PixelLossesArguments {
  ScoresArguments<T, R> scores;
  WeightingArguments<R> weighting;
  R* losses;             // [N, H, W], not weighted by the pixels' weights, or none
  PixelTerms<R>* terms;  // [N, H, W], or none
  LossSums* sums;        // [blocks]
  PixelTiles tiles;
};

struct LossTotalsArguments {
  const LossSums* sums;  // [count]
  int64 count;
  int mean;
  LabelTotals* totals;
  double* loss;    // divided by the total weight if `mean`
  double* weight;  // or none
  int64* invalid_pixel;
};

template <class T, class R>
struct PixelGradientArguments {
  ScoresArguments<T, R> scores;
  WeightingArguments<R> weighting;
  const PixelTerms<R>* terms;
  const LabelTotals* totals;
  FeatureMap<T> grad_logits;
  CoarseTiles tiles;
};

// blockIdx.y chooses the classes.
template <class T, class R>
struct ClassSumsArguments {
  ScoresArguments<T, R> scores;
  const PixelTerms<R>* terms;
  double* parts;  // [blocks, 3, K]; an image's blocks follow one another
  PixelTiles tiles;
};

// blockIdx.y is the image.
struct ClassTotalsArguments {
  const double* parts;  // [N, parts_per_image, count]
  int64 parts_per_image, count;
  double* class_sums;  // [N, count]
};

}  // namespace ladderseg::cuda
