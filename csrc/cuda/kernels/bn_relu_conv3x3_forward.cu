// Batch norm, rectification and 3x3 convolution: see ladderseg/bn_relu_conv3x3.h.
//
// The product is output[p, k] = sum over taps and c of y[p moved by the tap, c] * weight[k, tap, c]; y is made of x on
// the way to shared memory.
#include "bn_relu_conv3x3.h"
#include "patch_product_simt.cuh"
#include "patch_sources.cuh"
#include "tile_results.cuh"

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
LADDERSEG_DEVICE void work(const ForwardArguments& args, Memory<Tile>& memory) {
  const int64 row = static_cast<int64>(blockIdx.x / args.column_tiles) * Tile::kRows;
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
  write_tile_statistics(args, tile, row, column, memory.statistics);
}

template <class Tile>
union PatchMemory {
  typename Tile::Memory product;
  TileStatisticsMemory<Tile> statistics;
};

// With `wide`, the pixels of input and the rows of weight are whole chunks of 16 bytes.
template <class Tile, bool wide>
LADDERSEG_DEVICE void work_on_patch(const ForwardArguments& args, PatchMemory<Tile>& memory) {
  const int part = static_cast<int>(blockIdx.x / args.column_tiles);
  const int column = static_cast<int>(blockIdx.x % args.column_tiles) * Tile::kColumns;
  const auto patch = Tile::Patch::of(args.patches, part);
  const RectifiedPixels<wide> y{args.input, args.input_first_row, args.norm, args.wide_norm != 0};
  const ForwardWeight<Tile, wide> weight{args.weight, static_cast<int>(args.output.c), args.channels.value, column};
  Tile tile;
  tile.multiply(y, weight, patch, memory.product);
  store_patch(args, tile, patch, column);
  write_patch_statistics(args, tile, patch, part, column, memory.statistics);
}

LADDERSEG_PATCH_KERNEL(bn_relu_conv3x3_forward, ForwardArguments, LargePatchTile)
LADDERSEG_PATCH_KERNEL(bn_relu_conv3x3_forward_small, ForwardArguments, SmallPatchTile)
LADDERSEG_TENSOR_KERNEL(bn_relu_conv3x3_forward_tensor, ForwardArguments, kConv3x3Columns)
LADDERSEG_TENSOR_KERNEL(bn_relu_conv3x3_forward_tensor_narrow, ForwardArguments, kNarrowColumns)

}  // namespace ladderseg::cuda
