// Backward of batch norm, rectification and 3x3 convolution, for the input: see ladderseg/bn_relu_conv3x3.h.
//
// The product is g[p, c] = sum over taps and k of grad_output[p moved back by the tap, k] * weight[tap, k, c]. It is
// masked and summed where it is computed, and never stored.
#include "bn_relu_conv3x3.h"
#include "conv3x3_tensor.cuh"
#include "patch_product_simt.cuh"
#include "patch_results.cuh"

namespace ladderseg::cuda {

using DataArguments = BnReluConv3x3DataArguments<Element, Real>;

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
  const BackwardWeight<Tile, wide> weight{args.weight, args.padded_outputs, args.padded_channels, column};
  Tile tile;
  tile.multiply(grad, weight, patch, memory.product);
  write_patch_gradient<false>(args, tile, patch, part, column, memory.gradient);
}

LADDERSEG_PATCH_KERNEL(bn_relu_conv3x3_data, DataArguments, LargePatchTile)
LADDERSEG_PATCH_KERNEL(bn_relu_conv3x3_data_small, DataArguments, SmallPatchTile)

#if LADDERSEG_TENSOR_CORES
template <class Tile>
union TensorMemory {
  ConvolutionMemory<Tile, Contiguous::index> convolution;
  TileGradientMemory<Tile> gradient;
};

template <class Tile>
LADDERSEG_DEVICE void convolve_patch(const DataArguments& args, TensorMemory<Tile>& memory) {
  const PatchBlock<Tile> block(args, static_cast<int>(blockIdx.x));
  const CorrectedPixels<true> grad{args.grad_output, args.grad_first_row, true};
  const int grad_channels = args.padded_outputs;
  const TapWeights<Contiguous::index> weights{args.weight, grad_channels * args.padded_channels, args.padded_channels,
                                              args.padded_channels, grad_channels};
  Tile tile;
  convolve<true>(tile, grad, block.patch, weights, block.column, memory.convolution);
  const PatchBlock<Tile> again(args, block_again());
  write_patch_gradient<true>(args, tile, again.patch, again.part, again.column, memory.gradient);
}
#endif

LADDERSEG_TENSOR_PATCH_KERNEL(bn_relu_conv3x3_data_tensor, DataArguments, kTensorDataColumns)
LADDERSEG_TENSOR_PATCH_KERNEL(bn_relu_conv3x3_data_tensor_narrow, DataArguments, kNarrowColumns)

}  // namespace ladderseg::cuda
