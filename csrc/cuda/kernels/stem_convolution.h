// Arguments of the kernels in stem_convolution_*.cu: the stem's 7x7 convolution with stride 2 and padding 3, and its
// gradients, for a strip of rows of the convolution (ladderseg/stem.h).
#pragma once

#include "arguments.h"
#include "ladderseg/stem.h"

namespace ladderseg::cuda {

constexpr int kStemKernel = 7, kStemPadding = 3, kStemStride = 2;
constexpr int kStemTaps = kStemKernel * kStemKernel;

// Rows or columns of an image under so many of the convolution.
LADDERSEG_INLINE constexpr int stem_window(int count) { return kStemStride * (count - 1) + kStemKernel; }

// Outputs of a block, and those of a thread.
constexpr int kStemOutputs = 64, kStemThreadOutputs = 8;
constexpr int kStemGroups = kStemOutputs / kStemThreadOutputs;  // threads that share pixels

// Pixels side by side whose sums, or windows, a thread has in registers together; and a tile's columns.
constexpr int stem_thread_pixels(int real_bytes) { return 32 / real_bytes; }
constexpr int stem_tile_columns(int real_bytes) { return 4 * stem_thread_pixels(real_bytes); }

// Rows of a tile, and threads, of the forward: a thread has one row of a quarter of the columns.
constexpr int kStemForwardRows = 4;
constexpr int kStemForwardThreads = kStemForwardRows * 4 * kStemGroups;

// Of the weight gradient: a thread has one row of the filter in one of the block's channels.
constexpr int kStemWeightRows = 2, kStemWeightChannels = 3;
constexpr int kStemWeightThreads = kStemWeightChannels * kStemKernel * kStemGroups;

// Of the gradient of the images: a thread has one pixel of an image.
constexpr int kStemDataRows = 8, kStemDataColumns = 32;

// A grid of tiles over the rows and columns of every image.
struct StemTiles {
  int down, across;  // per image
};

template <class T, class R>
struct StemForwardArguments {
  Images<T> images;
  const T* weight;       // [K, C, 7, 7]
  FeatureMap<T> output;  // [N, rows, W', K]
  int64 first_row;       // of the convolution, at the first row of output
  StemTiles tiles;       // of output; blockIdx.y counts groups of outputs
  int wide_output;       // whether rows of output are whole chunks of 16 bytes
};

template <class T, class R>
struct StemWeightArguments {
  Images<T> images;
  FeatureMap<const T> grad_output;  // [N, rows, W', K]
  int64 first_row;                  // of the convolution, at the first row of grad_output
  StemTiles tiles;                  // of grad_output
  int64 tiles_per_part;
  R* partial_weight;  // [gridDim.x][K, C, 7, 7]; blockIdx.y counts groups of outputs, blockIdx.z of channels
  int accumulate;     // whether the parts are added to, else overwritten
  int wide;           // whether rows of grad_output are whole chunks of 16 bytes
};

template <class T, class R>
struct StemDataArguments {
  FeatureMap<const T> grad_output;  // [N, rows, W', K]
  int64 first_row;                  // of the convolution, at the first row of grad_output
  const T* weight;                  // [K, C, 7, 7]
  FeatureMap<T> grad_images;        // [N, H, W, C], added to
  int64 first_image_row;            // of the first tile
  StemTiles tiles;                  // of the image rows that the strip reaches; blockIdx.y counts channels
  int wide;                         // whether rows of grad_output are whole chunks of 16 bytes
};

}  // namespace ladderseg::cuda
