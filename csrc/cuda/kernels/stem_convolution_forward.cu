// The stem's convolution: see ladderseg/stem.h. On tensor cores: see stem_forward_tensor.cuh.
//
// On the ordinary units, a block has a tile of pixels and 64 outputs. Channel by channel it puts the image under the
// tile and the weights into shared memory. A thread has a few pixels side by side and eight outputs; for each row of
// the filter it reads the numbers under its pixels once, and uses them for all seven taps: for those of even columns,
// then of odd ones.
#include "stem_forward_tensor.cuh"
#include "stem_tile.cuh"

namespace ladderseg::cuda {

using ForwardArguments = StemForwardArguments<Element, Real>;

struct ForwardMemory {
  ImageTile<kStemForwardRows> image;
  // Threads store the taps of an output one after the other: the padding puts these into different banks.
  alignas(16) Real weight[kStemTaps][kStemOutputs + kStemPiece];
};

// A warp has an output's taps, a lane at most two of them.
LADDERSEG_DEVICE void load_weights(const ForwardArguments& args, int64 channel, int first_output,
                                   ForwardMemory& memory) {
  constexpr int kWarps = kStemForwardThreads / 32;
  const int warp = threadIdx.x / 32, tap = threadIdx.x % 32;
  const int64 number = (first_output + warp) * args.images.c + channel;
  const Element* from = args.weight + number * kStemTaps + tap;
  const int outputs = static_cast<int>(smaller(args.output.c - first_output, kStemOutputs));
#pragma unroll 4
  for (int times = 0; times < kStemOutputs / kWarps; ++times) {
    const int output = warp + times * kWarps;
    const bool inside = output < outputs;
    memory.weight[tap][output] = inside ? to_real(from[0]) : Real(0);
    if (tap + 32 < kStemTaps) memory.weight[tap + 32][output] = inside ? to_real(from[32]) : Real(0);
    from += kWarps * kStemTaps * args.images.c;
  }
}

extern "C" __global__ void __launch_bounds__(kStemForwardThreads, sizeof(Real) == 8 ? 2 : 3)
    LADDERSEG_KERNEL(stem_convolution_forward)(const ForwardArguments args) {
  __shared__ ForwardMemory memory;
  const StemTile tile(args.tiles, blockIdx.x, kStemForwardRows, kStemColumns);
  const int first_output = blockIdx.y * kStemOutputs;
  const int group = threadIdx.x % kStemGroups, place = threadIdx.x / kStemGroups;
  const int row = place / 4, column = place % 4 * kStemPixels;  // in the tile
  const int rows = static_cast<int>(smaller(kStemForwardRows, args.output.h - tile.row));
  Real sums[kStemPixels][kStemThreadOutputs] = {};
  for (int64 channel = 0; channel < args.images.c; ++channel) {
    if (channel > 0) __syncthreads();
    memory.image.load<kStemForwardThreads>(args.images, tile.image, channel, args.first_row + tile.row, tile.column,
                                           rows);
    load_weights(args, channel, first_output, memory);
    __syncthreads();
#pragma unroll 1
    for (int u = 0; u < kStemKernel; ++u) {
#pragma unroll
      for (int parity = 0; parity < kStemStride; ++parity) {
        Real window[kStemWindow];
        read_pieces(&memory.image.values[kStemStride * row + u][parity][column], window);
#pragma unroll
        for (int v = parity; v < kStemKernel; v += kStemStride) {
          Real weight[kStemThreadOutputs];
          read_outputs(memory.weight[kStemKernel * u + v], group, weight);
#pragma unroll
          for (int i = 0; i < kStemPixels; ++i)
#pragma unroll
            for (int j = 0; j < kStemThreadOutputs; ++j) sums[i][j] += window[i + v / kStemStride] * weight[j];
        }
      }
    }
  }
  if (row >= rows) return;
#pragma unroll
  for (int i = 0; i < kStemPixels; ++i) {
    const int64 x = tile.column + column + i;
    if (x >= args.output.w) return;
#pragma unroll
    for (int j = 0; j < kStemThreadOutputs; j += kStemPiece) {
      const int64 k = first_output + output_column(j, group), left = args.output.c - k;
      Real piece[kStemPiece];
#pragma unroll
      for (int n = 0; n < kStemPiece; ++n) piece[n] = sums[i][j + n];
      store_piece(args.output.at(tile.image, tile.row + row, x) + k, static_cast<int>(smaller(left, kStemPiece)),
                  args.wide_output != 0, piece);
    }
  }
}

#if LADDERSEG_TENSOR_CORES
extern "C" __global__ void __launch_bounds__(StemTensor::Tile::kThreads, kTensorBlocks)
    LADDERSEG_KERNEL(stem_convolution_forward_tensor)(const ForwardArguments args) {
  __shared__ StemTensor::Memory memory;
  const StemTile tile(args.tiles, blockIdx.x, kStemForwardRows, kStemColumns);
  const int first_output = blockIdx.y * kStemOutputs;
  const int rows = static_cast<int>(smaller(kStemForwardRows, args.output.h - tile.row));
  StemTensor stem;
  stem.tile.clear();
  for (int64 channel = 0; channel < args.images.c; ++channel) {
    if (channel > 0) __syncthreads();
    StemTensor::load_image(args.images, tile.image, channel, args.first_row + tile.row, tile.column, rows, memory);
    StemTensor::load_weights(args, channel, first_output, memory);
    __syncthreads();
    stem.multiply(memory);
  }
  stem.store(args, tile, first_output);
}
#endif

}  // namespace ladderseg::cuda
