// Batch norm, rectification and 1x1 convolution: see ladderseg/bn_relu_conv1x1.h.
//
// The product is output[p, m] = sum over c of y[p, c] * weight[m, c]; y is made of x on the way to shared memory.
#include "bn_relu_conv1x1.h"
#include "tile_results.cuh"

namespace ladderseg::cuda {

using ForwardArguments = BnReluConv1x1ForwardArguments<Element, Real>;

template <class Tile>
struct Memory {
  ProductMemory<Tile, Contiguous::depth, Contiguous::depth> product;
  TileStatisticsMemory<Tile> statistics;
};

// With `wide`, the rows of input and weight are whole chunks of 16 bytes.
template <class Tile, bool wide>
LADDERSEG_DEVICE void work(const ForwardArguments& args, Memory<Tile>& memory) {
  const int64 count = args.input.pixels();
  const int64 row = static_cast<int64>(blockIdx.x / args.column_tiles) * Tile::kRows;
  const int column = static_cast<int>(blockIdx.x % args.column_tiles) * Tile::kColumns;
  const int depth = static_cast<int>(args.input.c), columns = static_cast<int>(args.output.c);
  const int rows = static_cast<int>(smaller(count - row, Tile::kRows));
  const Rectified<wide> y{pixels_from(args.input, row), args.norm, rows, depth};
  const Matrix<wide> weight{args.weight, columns, depth};
  Tile tile;
  multiply<Contiguous::depth, Contiguous::depth>(tile, y, weight, 0, column, depth, memory.product);
  constexpr int kPiece = Tile::kColumnPiece;
#pragma unroll
  for (int i = 0; i < Tile::kThreadRows; ++i) {
#pragma unroll
    for (int j = 0; j < Tile::kThreadColumns; j += kPiece) {
      const int m = column + Tile::column(j);
      Real piece[kPiece];
#pragma unroll
      for (int k = 0; k < kPiece; ++k) tile.sums[i][j + k] = piece[k] = rounded(tile.sums[i][j + k]);
      if (Tile::row(i) < rows && m < columns)
        store_piece(args.output.pixel(row + Tile::row(i)) + m, columns - m, args.wide_output != 0, piece);
    }
  }
  if (!args.partial_statistics) return;
  Real* const partial = args.partial_statistics + 2 * args.output.c * (blockIdx.x / args.column_tiles);
  const auto there = [&](int i) { return Tile::row(i) < rows; };
  write_tile_statistics(tile, rows, there, partial, args.output.c, column, memory.statistics);
}

LADDERSEG_WIDE_KERNEL(bn_relu_conv1x1_forward, ForwardArguments, SimtTile<kSimtColumns>, 2)
// For few columns, and for rows that are not whole chunks.
LADDERSEG_SIMT_KERNEL(bn_relu_conv1x1_forward_narrow, ForwardArguments, kNarrowColumns)
LADDERSEG_TENSOR_KERNEL(bn_relu_conv1x1_forward_tensor, ForwardArguments, kTensorColumns)
LADDERSEG_TENSOR_KERNEL(bn_relu_conv1x1_forward_tensor_narrow, ForwardArguments, kNarrowColumns)

}  // namespace ladderseg::cuda
