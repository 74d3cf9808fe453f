// Batch norm, rectification and 3x3 convolution: see ladderseg/bn_relu_conv3x3.h.
//
// The product is output[p, k] = sum over taps and c of y[p moved by the tap, c] * weight[k, tap, c]; y is made of x on
// the way to shared memory.
#include "bn_relu_conv3x3.h"
#include "conv3x3_tensor.cuh"
#include "patch_product_simt.cuh"
#include "patch_results.cuh"

namespace ladderseg::cuda {

using ForwardArguments = BnReluConv3x3ForwardArguments<Element, Real>;

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
  const ForwardWeight<Tile, wide> weight{args.weight, static_cast<int>(args.output.c), args.padded_channels, column};
  Tile tile;
  tile.multiply(y, weight, patch, memory.product);
  store_patch(args, tile, patch, column);
  write_patch_statistics(args, tile, patch, part, column, memory.statistics);
}

LADDERSEG_PATCH_KERNEL(bn_relu_conv3x3_forward, ForwardArguments, LargePatchTile)
LADDERSEG_PATCH_KERNEL(bn_relu_conv3x3_forward_small, ForwardArguments, SmallPatchTile)

#if LADDERSEG_TENSOR_CORES
template <class Tile>
union TensorMemory {
  ConvolutionMemory<Tile, Contiguous::depth> convolution;
  TileStatisticsMemory<Tile> statistics;
};

template <class Tile>
LADDERSEG_DEVICE void convolve_patch(const ForwardArguments& args, TensorMemory<Tile>& memory) {
  const PatchBlock<Tile> block(args, static_cast<int>(blockIdx.x));
  const RectifiedPixels<true> y{args.input, args.input_first_row, args.norm, true};
  const int channels = args.padded_channels;
  const TapWeights<Contiguous::depth> weights{args.weight, channels, 9 * channels, static_cast<int>(args.output.c),
                                              channels};
  Tile tile;
  convolve<false>(tile, y, block.patch, weights, block.column, memory.convolution);
  const PatchBlock<Tile> again(args, block_again());
  store_patch(args, tile, again.patch, again.column);
  write_patch_statistics(args, tile, again.patch, again.part, again.column, memory.statistics);
}
#endif

LADDERSEG_TENSOR_PATCH_KERNEL(bn_relu_conv3x3_forward_tensor, ForwardArguments, kTensorForwardColumns)
LADDERSEG_TENSOR_PATCH_KERNEL(bn_relu_conv3x3_forward_tensor_narrow, ForwardArguments, kNarrowColumns)

}  // namespace ladderseg::cuda
