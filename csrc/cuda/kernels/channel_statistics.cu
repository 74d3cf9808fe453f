// Mean and deviations of every channel: see ladderseg/channel_statistics.h.
#include "channel_statistics.h"
#include "columns.cuh"
#include "statistics.cuh"

namespace ladderseg::cuda {

// Pixels that a thread has in registers at a time.
constexpr int kTilePixels = 4;

// Merges `count` pixels, blockDim.y pixels apart, into the statistics of `before` pixels.
template <int width, int count>
LADDERSEG_DEVICE void add_tile(Statistics (&into)[width], int before, const Element* from, int64 stride,
                               const Pack<width>& centre) {
  Pack<width> tile[count];
#pragma unroll
  for (int j = 0; j < count; ++j) tile[j] = load<width>(from + j * stride);
  const MergeWeights weights = merge_weights(Real(before), Real(count));
#pragma unroll
  for (int i = 0; i < width; ++i) {
    Real values[count];
#pragma unroll
    for (int j = 0; j < count; ++j) values[j] = tile[j].values[i] - centre.values[i];
    merge(into[i], statistics(values), weights);
  }
}

// Number of the `count` pixels that threads y, y + threads, y + 2 * threads, ... of a block take together.
LADDERSEG_DEVICE int pixels_of(int y, int threads, int count) { return y < count ? (count - 1 - y) / threads + 1 : 0; }

// Threads that pass their statistics to others at a time.
constexpr int kGivers = kColumnThreads / 2;

// Merges the statistics of `count` pixels over threadIdx.y, as sum_over_block (columns.cuh) adds sums. `shared` has
// room for 2 * kGivers * width numbers: [channel of the pack][mean, deviation][thread].
template <int width>
LADDERSEG_DEVICE void merge_over_block(Statistics (&into)[width], int count, Real* shared) {
  const int thread = threadIdx.y * blockDim.x + threadIdx.x;
  for (int half = blockDim.y / 2; half > 0; half /= 2) {
    const int other = thread - half * static_cast<int>(blockDim.x);
    if (threadIdx.y >= half && threadIdx.y < 2 * half) {
#pragma unroll
      for (int i = 0; i < width; ++i) {
        shared[2 * i * kGivers + other] = into[i].mean;
        shared[(2 * i + 1) * kGivers + other] = into[i].deviation;
      }
    }
    __syncthreads();
    const int added = pixels_of(threadIdx.y + half, 2 * half, count);
    if (threadIdx.y < half && added > 0) {
      const MergeWeights weights = merge_weights(Real(pixels_of(threadIdx.y, 2 * half, count)), Real(added));
#pragma unroll
      for (int i = 0; i < width; ++i)
        merge(into[i], {shared[2 * i * kGivers + thread], shared[(2 * i + 1) * kGivers + thread]}, weights);
    }
    __syncthreads();
  }
}

template <int width>
LADDERSEG_DEVICE void channel_statistics(const ChannelStatisticsArguments<Element, Real>& args, Real* shared) {
  const int64 c = column<width>(), channels = args.input.c;
  const PixelRange range = block_pixels(args.columns, args.input.pixels());
  const int count = static_cast<int>(range.end - range.begin);
  Statistics result[width] = {};
  if (c < channels && count > 0) {
    auto first = load<width>(args.centre + c);
#pragma unroll
    for (int i = 0; i < width; ++i) first.values[i] = centre(first.values[i]);
    const int64 stride = blockDim.y * args.input.pixel_stride;
    const Element* from = args.input.pixel(range.begin + threadIdx.y) + c;
    const int mine = pixels_of(threadIdx.y, blockDim.y, count);
    int done = 0;
    for (; done + kTilePixels <= mine; done += kTilePixels, from += kTilePixels * stride)
      add_tile<width, kTilePixels>(result, done, from, stride, first);
    for (; done < mine; ++done, from += stride) add_tile<width, 1>(result, done, from, stride, first);
  }
  merge_over_block(result, count, shared);
  if (c >= channels || threadIdx.y != 0) return;
  Real* const partial = args.partial_statistics + 2 * channels * blockIdx.y + c;
#pragma unroll
  for (int i = 0; i < width; ++i) {
    partial[i] = result[i].mean;
    partial[channels + i] = result[i].deviation;
  }
}

extern "C" __global__ void __launch_bounds__(kColumnThreads, 2)
    LADDERSEG_KERNEL(channel_statistics)(const ChannelStatisticsArguments<Element, Real> args) {
  __shared__ Real shared[2 * kGivers * kWide];
  if (args.columns.wide)
    channel_statistics<kWide>(args, shared);
  else
    channel_statistics<1>(args, shared);
}

}  // namespace ladderseg::cuda
