// The gradient of the weight of the stem's convolution: see ladderseg/stem.h.
//
// A block has 64 outputs and three channels, and adds up a part of the tiles. A thread has one row of the filter in one
// channel, and eight outputs: for a few pixels side by side it reads the numbers under them once, and uses them for all
// seven taps. Parts are added up in a fixed order by sum_parts.cu.
#include "stem_tile.cuh"

namespace ladderseg::cuda {

using WeightArguments = StemWeightArguments<Element, Real>;

struct WeightMemory {
  ImageTile<kStemWeightRows> images[kStemWeightChannels];
  alignas(16) Real grad[kStemWeightRows * kStemColumns][kStemOutputs];
};

// Loads the gradient of `rows` x `columns` pixels of the tile; zero for outputs that do not exist.
template <bool wide>
LADDERSEG_DEVICE void load_gradient(const WeightArguments& args, const StemTile& tile, int rows, int columns,
                                    int first_output, WeightMemory& memory) {
  constexpr int kChunks = kStemOutputs / kWide;
  for (int i = threadIdx.x; i < kStemWeightRows * kStemColumns * kChunks; i += kStemWeightThreads) {
    const int pixel = i / kChunks, k = i % kChunks * kWide;
    const int y = pixel / kStemColumns, x = pixel % kStemColumns;
    if (y >= rows || x >= columns) continue;
    const int left = static_cast<int>(args.grad_output.c) - first_output - k;
    Pack<kWide> pack = {};
    if (left > 0)
      pack = unpack(
          fetch_chunk<wide>(args.grad_output.at(tile.image, tile.row + y, tile.column + x) + first_output + k, left));
#pragma unroll
    for (int j = 0; j < kWide; ++j) memory.grad[pixel][k + j] = pack.values[j];
  }
}

// Adds the products of `pixels` neighbours from column `x` of the tile on; `image` is a row of the image under them.
template <int pixels>
LADDERSEG_DEVICE void add_pixels(const Real (&image)[kStemStride][ImageTile<kStemWeightRows>::kWidth], int x,
                                 const Real (*grad)[kStemOutputs], int group,
                                 Real (&sums)[kStemKernel][kStemThreadOutputs]) {
  constexpr int kWindow = pixels + kStemSpan;
  Real window[kStemStride][pixels == kStemPixels ? kStemWindow : kWindow];
#pragma unroll
  for (int parity = 0; parity < kStemStride; ++parity) {
    if constexpr (pixels == kStemPixels) {
      read_pieces(image[parity] + x, window[parity]);
    } else {
#pragma unroll
      for (int i = 0; i < kWindow; ++i) window[parity][i] = image[parity][x + i];
    }
  }
#pragma unroll
  for (int i = 0; i < pixels; ++i) {
    Real g[kStemThreadOutputs];
    read_outputs(grad[x + i], group, g);
#pragma unroll
    for (int v = 0; v < kStemKernel; ++v)
#pragma unroll
      for (int j = 0; j < kStemThreadOutputs; ++j) sums[v][j] += window[v % kStemStride][i + v / kStemStride] * g[j];
  }
}

extern "C" __global__ void __launch_bounds__(kStemWeightThreads, sizeof(Real) == 8 ? 1 : 2)
    LADDERSEG_KERNEL(stem_convolution_weight)(const WeightArguments args) {
  __shared__ WeightMemory memory;
  const FeatureMap<const Element>& grad = args.grad_output;
  const int first_output = blockIdx.y * kStemOutputs;
  const int64 first_channel = static_cast<int64>(blockIdx.z) * kStemWeightChannels;
  const int group = threadIdx.x % kStemGroups, place = threadIdx.x / kStemGroups;
  const int u = place % kStemKernel, channel = place / kStemKernel;  // of the block's
  const int64 begin = blockIdx.x * args.tiles_per_part;
  const int64 end = smaller(begin + args.tiles_per_part, grad.n * args.tiles.down * args.tiles.across);
  Real sums[kStemKernel][kStemThreadOutputs] = {};
  for (int64 number = begin; number < end; ++number) {
    const StemTile tile(args.tiles, number, kStemWeightRows, kStemColumns);
    const int rows = static_cast<int>(smaller(kStemWeightRows, grad.h - tile.row));
    const int columns = static_cast<int>(smaller(kStemColumns, grad.w - tile.column));
    if (number > begin) __syncthreads();
    for (int c = 0; c < kStemWeightChannels && first_channel + c < args.images.c; ++c)
      memory.images[c].load<kStemWeightThreads>(args.images, tile.image, first_channel + c, args.first_row + tile.row,
                                                tile.column, rows);
    if (args.wide)
      load_gradient<true>(args, tile, rows, columns, first_output, memory);
    else
      load_gradient<false>(args, tile, rows, columns, first_output, memory);
    __syncthreads();
    if (first_channel + channel >= args.images.c) continue;
#pragma unroll 1
    for (int y = 0; y < kStemWeightRows; ++y) {
      if (y >= rows) break;
      const auto& image = memory.images[channel].values[kStemStride * y + u];
      const Real(*const grads)[kStemOutputs] = memory.grad + y * kStemColumns;
#pragma unroll 1
      for (int x = 0; x < kStemColumns; x += kStemPixels) {
        if (x + kStemPixels <= columns) {
          add_pixels<kStemPixels>(image, x, grads, group, sums);
        } else {
#pragma unroll 1
          for (int i = x; i < columns; ++i) add_pixels<1>(image, i, grads, group, sums);
        }
      }
    }
  }
  const int64 c = first_channel + channel;
  if (c >= args.images.c) return;
  Real* const part = args.partial_weight + blockIdx.x * grad.c * args.images.c * kStemTaps;
#pragma unroll
  for (int j = 0; j < kStemThreadOutputs; ++j) {
    const int64 k = first_output + output_column(j, group);
    if (k >= grad.c) continue;
    Real* const to = part + (k * args.images.c + c) * kStemTaps + kStemKernel * u;
#pragma unroll
    for (int v = 0; v < kStemKernel; ++v) to[v] = args.accumulate ? to[v] + sums[v][j] : sums[v][j];
  }
}

}  // namespace ladderseg::cuda
