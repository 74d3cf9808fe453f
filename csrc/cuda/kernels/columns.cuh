// Blocks that work on columns of a map: threadIdx.x and blockIdx.x choose channels, threadIdx.y and blockIdx.y pixels.
//
// A thread keeps its channels, so data of a channel stays in registers while the thread goes from pixel to pixel, and a
// warp reads neighbouring channels of a few pixels: whole cache lines.
#pragma once

#include "channel_norm.cuh"

namespace ladderseg::cuda {

constexpr int kColumnThreads = 256;

// The first channel of this thread, of `width`.
template <int width>
LADDERSEG_DEVICE int64 column() {
  return (static_cast<int64>(blockIdx.x) * blockDim.x + threadIdx.x) * width;
}

struct PixelRange {
  int64 begin, end;
};

// The pixels of this block; its threads take every blockDim.y-th, from threadIdx.y on.
LADDERSEG_DEVICE PixelRange block_pixels(const Columns& columns, int64 count) {
  const int64 begin = blockIdx.y * columns.pixels_per_block;
  return {begin, smaller(begin + columns.pixels_per_block, count)};
}

// Sums over threadIdx.y, in a fixed order; threads with threadIdx.y == 0 get the result. All threads of the block call
// it together. `shared` has room for kColumnThreads * width numbers: [channel of the pack][thread], so that
// neighbouring threads touch neighbouring banks.
template <int width>
LADDERSEG_DEVICE void sum_over_block(Pack<width>& pack, Real* shared) {
  const int thread = threadIdx.y * blockDim.x + threadIdx.x;
  for (int half = blockDim.y / 2; half > 0; half /= 2) {
    if (threadIdx.y >= half && threadIdx.y < 2 * half) {
#pragma unroll
      for (int i = 0; i < width; ++i) shared[i * kColumnThreads + thread] = pack.values[i];
    }
    __syncthreads();
    if (threadIdx.y < half) {
#pragma unroll
      for (int i = 0; i < width; ++i)
        pack.values[i] += shared[i * kColumnThreads + thread + half * static_cast<int>(blockDim.x)];
    }
    __syncthreads();
  }
}

// Writes the sums of this block's pixels, as part blockIdx.y of [parts][masked, centred][channels]. `sums` belong to
// the thread's channels, the first of which is c. All threads of the block call it together; `shared` as above.
template <int width>
LADDERSEG_DEVICE void write_block_sums(const ChannelSums<width>& sums, int64 c, int64 channels, Real* partial_sums,
                                       Real* shared) {
  Pack<width> masked, centred;
#pragma unroll
  for (int i = 0; i < width; ++i) {
    masked.values[i] = sums.masked[i];
    centred.values[i] = sums.centred[i];
  }
  sum_over_block(masked, shared);
  sum_over_block(centred, shared);
  if (c >= channels || threadIdx.y != 0) return;
  Real* const partial = partial_sums + 2 * channels * blockIdx.y + c;
#pragma unroll
  for (int i = 0; i < width; ++i) {
    partial[i] = masked.values[i];
    partial[channels + i] = centred.values[i];
  }
}

}  // namespace ladderseg::cuda
