// Arguments of the kernels in bn_relu_conv3x3_*.cu; the operators are those of ladderseg/bn_relu_conv3x3.h.
//
// Tap 3 * u + v is the weight at row u and column v of the 3x3. Weights come with their channels padded with zeros to
// whole chunks of 16 bytes: C' and K' are C and K, rounded up.
#pragma once

#include "arguments.h"
#include "patches.h"
#include "product.h"

namespace ladderseg::cuda {

// Tiles of the ordinary arithmetic units: columns of the result, and rows and columns of their patches. Small patches
// are for maps that have too few large ones for all multiprocessors.
constexpr int kPatchColumns = 32;
constexpr int kLargePatchHeight = 8, kLargePatchWidth = 32;
constexpr int kSmallPatchHeight = 8, kSmallPatchWidth = 8;

// Tiles of tensor cores: their columns, threads, and patches, in which a row is the rows of an instruction. Backward,
// more is done with the result, so that fewer registers are left for it.
constexpr int kTensorForwardColumns = 128, kTensorDataColumns = 64;
constexpr int kTensorPatchHeight = 8, kTensorPatchWidth = 16;
constexpr int tensor_patch_threads(int columns) { return columns <= kNarrowColumns ? 128 : 256; }

template <class T, class R>
struct BnReluConv3x3ForwardArguments {
  FeatureMap<const T> input;
  int64 input_first_row;
  Norm<R> norm;
  const T* weight;      // [K, 9, C']
  int padded_channels;  // C'
  FeatureMap<T> output;
  PatchGrid patches;      // of output
  R* partial_statistics;  // [patches][mean, sum of squared deviations][K] or nullptr
  int* counts;            // [patches], their pixels; or nullptr
  int column_tiles;       // blocks are numbered column tile first
  int wide;               // whether rows of input and weight are whole chunks of 16 bytes
  int wide_norm;          // whether the vectors' chunks are
  int wide_output;        // whether rows of output are
  int accumulate;
};

template <class T, class R>
struct BnReluConv3x3DataArguments {
  Gradient<T, R> grad_output;
  int64 grad_first_row;
  FeatureMap<const T> input;
  int64 input_first_row;
  Norm<R> norm;
  const T* weight;      // [9, K', C']
  int padded_outputs;   // K'
  int padded_channels;  // C'
  FeatureMap<T> grad_input;
  PatchGrid patches;  // of grad_input
  R* partial_sums;    // [patches][masked, centred][C]
  int column_tiles;
  int wide;             // whether rows of grad_output and weight are whole chunks of 16 bytes
  int wide_correction;  // whether the vectors' chunks are
  int wide_input;       // whether rows of input and grad_input are
};

template <class T, class R>
struct BnReluConv3x3WeightArguments {
  Gradient<T, R> grad_output;
  int64 grad_first_row;
  FeatureMap<const T> input;
  int64 input_first_row;
  Norm<R> norm;
  int64 padded_channels;  // C'
  PatchGrid patches;
  R* partial_weight;                // [parts][9][C'][K]
  int channel_tiles, output_tiles;  // blocks of a part are numbered output tile first
  int64 patches_per_part;
  int wide;  // whether rows of grad_output and input are whole chunks of 16 bytes
};

}  // namespace ladderseg::cuda
