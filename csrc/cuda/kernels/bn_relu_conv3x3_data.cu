// Backward of batch norm, rectification and 3x3 convolution, for the input: see ladderseg/bn_relu_conv3x3.h.
//
// The product is g[p, c] = sum over taps and k of grad_output[p moved back by the tap, k] * weight[tap, k, c]. It is
// masked and summed where it is computed, and never stored.
#include "bn_relu_conv3x3.h"
#include "patch_product_simt.cuh"
#include "patch_sources.cuh"
#include "tile_results.cuh"

namespace ladderseg::cuda {

using DataArguments = BnReluConv3x3DataArguments<Element, Real>;

template <class Tile>
struct Memory {
  ProductMemory<Tile, Contiguous::depth, Contiguous::index> product;
  Neighbours<Tile::kRows> neighbours;
  TileGradientMemory<Tile> gradient;
};

// With `wide`, the rows of grad_output and weight are whole chunks of 16 bytes.
template <class Tile, bool wide>
LADDERSEG_DEVICE void work(const DataArguments& args, Memory<Tile>& memory) {
  const int64 row_tile = blockIdx.x / args.column_tiles, row = row_tile * Tile::kRows;
  const int column = static_cast<int>(blockIdx.x % args.column_tiles) * Tile::kColumns;
  const int depth = kTaps * args.grad_channels.value;
  const Strip strip = {args.grad_input.n, args.grad_input.h, args.grad_input.w};
  memory.neighbours.find(strip, row, args.grad_first_row, args.grad_output.grad.h, -args.dilation);
  const CorrectedPatches<wide, Tile::kRows> grad{args.grad_output, args.grad_channels, memory.neighbours,
                                                 correction(args.grad_output, args.wide_correction != 0)};
  const Matrix<wide> weight{args.weight, depth, args.padded_channels};
  Tile tile;
  multiply<Contiguous::depth, Contiguous::index>(tile, grad, weight, 0, column, 0, depth, memory.product);
  memory.neighbours.find(strip, row, args.input_first_row, args.input.h, args.dilation);
  const auto input_pixel = [&](int64, int i) { return memory.neighbours.row[i].centre; };
  write_tile_gradient<false>(args, tile, row, row_tile, column, input_pixel, memory.gradient);
}

template <class Tile>
union PatchMemory {
  typename Tile::Memory product;
  TileGradientMemory<Tile> gradient;
};

// With `wide`, the pixels of grad_output and the rows of weight are whole chunks of 16 bytes.
template <class Tile, bool wide>
LADDERSEG_DEVICE void work_on_patch(const DataArguments& args, PatchMemory<Tile>& memory) {
  const int part = static_cast<int>(blockIdx.x / args.column_tiles);
  const int column = static_cast<int>(blockIdx.x % args.column_tiles) * Tile::kColumns;
  const auto patch = Tile::Patch::of(args.patches, part);
  const CorrectedPixels<wide> grad{args.grad_output, args.grad_first_row, args.wide_correction != 0};
  const BackwardWeight<Tile, wide> weight{args.weight, args.grad_channels.value, args.padded_channels, column};
  Tile tile;
  tile.multiply(grad, weight, patch, memory.product);
  write_patch_gradient(args, tile, patch, part, column, memory.gradient);
}

LADDERSEG_PATCH_KERNEL(bn_relu_conv3x3_data, DataArguments, LargePatchTile)
LADDERSEG_PATCH_KERNEL(bn_relu_conv3x3_data_small, DataArguments, SmallPatchTile)
LADDERSEG_TENSOR_KERNEL(bn_relu_conv3x3_data_tensor, DataArguments, kConv3x3Columns)

}  // namespace ladderseg::cuda
