// Arguments of the kernels in upsample_cross_entropy.cu; the operator is that of ladderseg/upsample_cross_entropy.h.
#pragma once

#include "score_tiles.h"

namespace ladderseg::cuda {

// Sums over some pixels that depend only on the labels.
struct LabelSums {
  double weight;        // of the counted pixels
  int64 first_invalid;  // the first label that is neither a class nor ignored, or kNoPixel
};

constexpr int64 kNoPixel = 0x7fffffffffffffffLL;

// Totals over all pixels.
struct LabelTotals {
  double weight;  // by which the loss is divided: 1 if all have weight 0, and for a loss that is no mean
  double scale;   // 1 / weight
};

template <class R>
struct Labels {
  const void* data;  // [N, H, W]
  int type;          // 0: unsigned char, 1: int, 2: int64
  int64 pixels;
  int64 classes, ignore_index;
  const R* class_weights;  // [K] or none
};

template <class R>
struct LabelSumsArguments {
  Labels<R> labels;
  LabelSums* sums;  // [blocks]
  int wide;         // whether labels can be read 16 bytes at a time
};

struct LabelTotalsArguments {
  const LabelSums* sums;  // [parts]
  int64 parts;
  int mean;  // whether the loss is divided by the weight
  LabelTotals* totals;
  int64* invalid_pixel;
};

// The softmax of a pixel is exp(score - maximum) * factor / weight; the factor includes the pixel's weight.
template <class R>
struct PixelSoftmax {
  R maximum, factor;
};
template <>
struct PixelSoftmax<void>;  // has only an address

template <class T, class R>
struct PixelLossArguments {
  FeatureMap<const T> logits;
  Labels<R> labels;
  int64 height, width;
  PixelSoftmax<R>* softmax;  // [N, H, W], or none
  double* loss;              // [blocks]
  PixelTiles tiles;
};

template <class T, class R>
struct UpsampleCrossEntropyArguments {
  FeatureMap<const T> logits;
  Labels<R> labels;
  int64 height, width;
  FeatureMap<T> grad_logits;  // or no data
  const LabelTotals* totals;
  const PixelSoftmax<R>* softmax;  // [N, H, W], for kernels that do not compute it
  double* loss;                    // [blocks], for kernels that compute it
  CoarseTiles tiles;
};

struct LossArguments {
  const double* parts;  // [count]
  int64 count;
  const LabelTotals* totals;
  const int64* invalid_pixel;
  double* loss;
};

}  // namespace ladderseg::cuda
