// Arguments of the kernels in bn_relu_conv1x1_*.cu; the operators are those of ladderseg/bn_relu_conv1x1.h.
#pragma once

#include "arguments.h"

namespace ladderseg::cuda {

template <class T, class R>
struct BnReluConv1x1ForwardArguments {
  FeatureMap<const T> input;
  Norm<R> norm;
  const T* weight;  // [M, C]
  FeatureMap<T> output;
  R* partial_statistics;  // [tiles of pixels][mean, sum of squared deviations][M] or nullptr
  int column_tiles;       // blocks are numbered column tile first
  int wide;               // whether rows of input and weight are whole chunks of 16 bytes, and vectors are aligned so
  int wide_output;        // likewise
};

template <class T, class R>
struct BnReluConv1x1DataArguments {
  Gradient<T, R> grad_output;
  FeatureMap<const T> input;
  Norm<R> norm;
  const T* weight;           // [M, C]
  FeatureMap<T> grad_input;  // or no data
  R* partial_sums;           // [tiles of pixels][masked, centred][C]
  int column_tiles;
  int wide;        // whether rows of grad_output and weight are whole chunks of 16 bytes; its vectors are aligned so
  int wide_input;  // those of input and grad_input
  int accumulate;
};

template <class T, class R>
struct BnReluConv1x1WeightArguments {
  Gradient<T, R> grad_output;
  FeatureMap<const T> input;
  Norm<R> norm;
  R* partial_weight;  // [parts][M][C]
  int row_tiles, column_tiles;
  int64 pixels_per_part;  // a multiple of a tile's depth
  int wide;               // whether rows of grad_output and input are whole chunks, and vectors aligned
};

// Both of the above at once.
template <class T, class R>
struct BnReluConv1x1BackwardArguments {
  Gradient<T, R> grad_output;  // of at most kOnePassGradients channels
  FeatureMap<const T> input;
  Norm<R> norm;
  const T* weight;           // [M, C]
  FeatureMap<T> grad_input;  // or no data
  R* partial_sums;           // [parts][masked, centred][C]
  R* partial_weight;         // [parts][M][C]
  int column_tiles;
  int64 pixels_per_part;  // a multiple of a tile's pixels
  int wide;               // whether rows of grad_output and weight are whole chunks of 16 bytes
  int wide_input;         // those of input and grad_input
  int accumulate;
};

}  // namespace ladderseg::cuda
