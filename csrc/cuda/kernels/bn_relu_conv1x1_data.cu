// Backward of batch norm, rectification and 1x1 convolution, for the input: see ladderseg/bn_relu_conv1x1.h.
//
// The product is g[p, c] = sum over m of grad_output[p, m] * weight[m, c]. It is masked, summed and added to grad_input
// where it is computed, and never stored.
#include "bn_relu_conv1x1.h"
#include "tile_results.cuh"

namespace ladderseg::cuda {

using DataArguments = BnReluConv1x1DataArguments<Element, Real>;

template <class Tile>
struct Memory {
  ProductMemory<Tile, Contiguous::depth, Contiguous::index> product;
  TileGradientMemory<Tile> gradient;
};

// The tile is the gradient of y, for pixels from `row` on and channels from `column` on. Masked it is summed up, and
// scaled it becomes grad_input, which may have no data and may be added to.
template <class Tile>
LADDERSEG_DEVICE void write_gradient(const DataArguments& args, const Tile& tile, int64 row, int column,
                                     TileGradientMemory<Tile>& memory) {
  constexpr int kPiece = Tile::kColumnPiece;
  const int64 count = args.input.pixels();
  const int columns = static_cast<int>(args.input.c);
  const bool wide = args.wide_input != 0;
  Real masked_sums[Tile::kThreadColumns], centred_sums[Tile::kThreadColumns];
#pragma unroll
  for (int j = 0; j < Tile::kThreadColumns; j += kPiece) {
    const int c = column + Tile::column(j), left = columns - c;
    const ChannelNorm<kPiece> norm(args.norm, c, left);
    ChannelSums<kPiece> sums;
#pragma unroll
    for (int i = 0; i < Tile::kThreadRows; ++i) {
      const int64 p = row + Tile::row(i);
      if (p >= count || left <= 0) continue;
      Real x[kPiece], result[kPiece] = {};
      load_piece(args.input.pixel(p) + c, left, wide, x);
      if (args.accumulate) load_piece(args.grad_input.pixel(p) + c, left, wide, result);
#pragma unroll
      for (int k = 0; k < kPiece; ++k) result[k] += sums.add(norm, k, x[k], tile.sums[i][j + k]);
      if (args.grad_input.data) store_piece(args.grad_input.pixel(p) + c, left, wide, result);
    }
#pragma unroll
    for (int k = 0; k < kPiece; ++k) {
      masked_sums[j + k] = sums.masked[k];
      centred_sums[j + k] = sums.centred[k];
    }
  }
  write_tile_sums<Tile>(args, masked_sums, centred_sums, row / Tile::kRows, column, memory);
}

// With `wide`, the rows of grad_output and weight are whole chunks of 16 bytes.
template <class Tile, bool wide>
LADDERSEG_DEVICE void work(const DataArguments& args, Memory<Tile>& memory) {
  const int64 row = static_cast<int64>(blockIdx.x / args.column_tiles) * Tile::kRows;
  const int column = static_cast<int>(blockIdx.x % args.column_tiles) * Tile::kColumns;
  const int depth = static_cast<int>(args.grad_output.grad.c), columns = static_cast<int>(args.input.c);
  const int rows = static_cast<int>(smaller(args.input.pixels() - row, Tile::kRows));
  const Corrected<wide> grad{pixels_from(args.grad_output, row), rows, depth};
  const Matrix<wide> weight{args.weight, depth, columns};
  Tile tile;
  multiply<Contiguous::depth, Contiguous::index>(tile, grad, weight, 0, column, depth, memory.product);
  write_gradient(args, tile, row, column, memory.gradient);
}

LADDERSEG_SIMT_KERNEL(bn_relu_conv1x1_data, DataArguments, kBackwardColumns)
LADDERSEG_TENSOR_KERNEL(bn_relu_conv1x1_data_tensor, DataArguments, kBackwardColumns)

}  // namespace ladderseg::cuda
