// Batch norm, rectification and 3x3 convolution: see ladderseg/bn_relu_conv3x3.h.
//
// The product is output[p, k] = sum over taps and c of y[p moved by the tap, c] * weight[k, tap, c]; y is made of x on
// the way to shared memory.
#include "bn_relu_conv3x3.h"
#include "patch_sources.cuh"
#include "tile_statistics.cuh"

namespace ladderseg::cuda {

using ForwardArguments = BnReluConv3x3ForwardArguments<Element, Real>;

template <class Tile>
struct Memory {
  ProductMemory<Tile, Contiguous::depth, Contiguous::depth> product;
  Neighbours<Tile::kRows> neighbours;
  TileStatisticsMemory<Tile> statistics;
};

// Stores the tile's result, or its sum with the output, which the tile then is.
template <class Tile>
LADDERSEG_DEVICE void store_tile(const ForwardArguments& args, Tile& tile, int64 row, int column) {
  constexpr int kPiece = Tile::kColumnPiece;
  const int64 count = args.output.pixels();
  const int columns = static_cast<int>(args.output.c);
#pragma unroll
  for (int i = 0; i < Tile::kThreadRows; ++i) {
    const int64 p = row + Tile::row(i);
#pragma unroll
    for (int j = 0; j < Tile::kThreadColumns; j += kPiece) {
      const int k = column + Tile::column(j);
      const bool inside = p < count && k < columns;
      Real piece[kPiece];
#pragma unroll
      for (int l = 0; l < kPiece; ++l) piece[l] = Real(0);
      if (args.accumulate && inside) load_piece(args.output.pixel(p) + k, columns - k, args.wide_output != 0, piece);
#pragma unroll
      for (int l = 0; l < kPiece; ++l) tile.sums[i][j + l] = piece[l] = rounded(piece[l] + tile.sums[i][j + l]);
      if (inside) store_piece(args.output.pixel(p) + k, columns - k, args.wide_output != 0, piece);
    }
  }
}

// With `wide`, the rows of input and weight are whole chunks of 16 bytes.
template <class Tile, bool wide>
LADDERSEG_DEVICE void forward(const ForwardArguments& args, Memory<Tile>& memory) {
  const int64 row_tile = blockIdx.x / args.column_tiles, row = row_tile * Tile::kRows;
  const int column = static_cast<int>(blockIdx.x % args.column_tiles) * Tile::kColumns;
  const int depth = kTaps * args.channels.value;
  const Strip strip = {args.output.n, args.output.h, args.output.w};
  memory.neighbours.find(strip, row, args.input_first_row, args.input.h, args.dilation);
  const RectifiedPatches<wide, Tile::kRows> y{
      args.input, args.channels, memory.neighbours, {args.norm, static_cast<int>(args.input.c), args.wide_norm != 0}};
  const Matrix<wide> weight{args.weight, args.output.c, depth};
  Tile tile;
  multiply<Contiguous::depth, Contiguous::depth>(tile, y, weight, 0, column, 0, depth, memory.product);
  store_tile(args, tile, row, column);
  if (!args.partial_statistics) return;
  const int rows = static_cast<int>(smaller(args.output.pixels() - row, Tile::kRows));
  write_tile_statistics(tile, rows, args.output.c - column,
                        args.partial_statistics + 2 * args.output.c * row_tile + column, args.output.c,
                        memory.statistics);
}

extern "C" __global__ void __launch_bounds__(kProductThreads, 2)
    LADDERSEG_KERNEL(bn_relu_conv3x3_forward)(const ForwardArguments args) {
  using Tile = SimtTile<kConv3x3Columns>;
  __shared__ Memory<Tile> memory;
  if (args.wide)
    forward<Tile, true>(args, memory);
  else
    forward<Tile, false>(args, memory);
}

extern "C" __global__ void __launch_bounds__(kProductThreads, 2)
    LADDERSEG_KERNEL(bn_relu_conv3x3_forward_narrow)(const ForwardArguments args) {
  using Tile = SimtTile<kNarrowColumns>;
  __shared__ Memory<Tile> memory;
  if (args.wide)
    forward<Tile, true>(args, memory);
  else
    forward<Tile, false>(args, memory);
}

#if LADDERSEG_TENSOR_CORES
extern "C" __global__ void __launch_bounds__(kProductThreads, kTensorBlocks)
    LADDERSEG_KERNEL(bn_relu_conv3x3_forward_tensor)(const ForwardArguments args) {
  using Tile = TensorTile<kConv3x3Columns>;
  __shared__ Memory<Tile> memory;
  forward<Tile, true>(args, memory);
}

extern "C" __global__ void __launch_bounds__(kProductThreads, kTensorBlocks)
    LADDERSEG_KERNEL(bn_relu_conv3x3_forward_tensor_narrow)(const ForwardArguments args) {
  using Tile = TensorTile<kNarrowColumns>;
  __shared__ Memory<Tile> memory;
  forward<Tile, true>(args, memory);
}
#endif

}  // namespace ladderseg::cuda
