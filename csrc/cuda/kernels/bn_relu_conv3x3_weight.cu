// Backward of batch norm, rectification and 3x3 convolution, for the weight: see ladderseg/bn_relu_conv3x3.h.
//
// The product is grad_weight[tap, c, k] = sum over p of y[p moved by the tap, c] * grad_output[p, k]. The result is
// small and the sum is long, so parts of the sum are computed by different blocks and added up in a fixed order. There
// are many taps and channels and few k, so the former are the rows, of which a tile has more.
#include "bn_relu_conv3x3.h"
#include "patch_sources.cuh"
#include "tile_results.cuh"

namespace ladderseg::cuda {

using WeightArguments = BnReluConv3x3WeightArguments<Element, Real>;

template <class Tile>
struct Memory {
  ProductMemory<Tile, Contiguous::index, Contiguous::index> product;
};

// With `wide`, the rows of grad_output and input are whole chunks of 16 bytes.
template <class Tile, bool wide>
LADDERSEG_DEVICE void work(const WeightArguments& args, Memory<Tile>& memory) {
  // Blocks of one part of the pixels follow each other, so that what they share is read from memory once.
  const int tiles = args.row_tiles * args.column_tiles;
  const int64 part = blockIdx.x / tiles;
  const int tile_number = static_cast<int>(blockIdx.x % tiles);
  const int row = tile_number / args.column_tiles * Tile::kRows;
  const int column = tile_number % args.column_tiles * Tile::kColumns;
  const int rows = kTaps * args.channels.value, columns = static_cast<int>(args.grad_output.grad.c);
  const int64 begin = part * args.pixels_per_part;
  const int64 end = smaller(begin + args.pixels_per_part, args.strip.n * args.strip.h * args.strip.w);
  const PixelRange range(args.strip, args.height, args.width, begin, end - begin);
  const RectifiedRange<wide> y{
      range,         args.input,    static_cast<int>(args.input_first_row),
      args.dilation, args.channels, {args.norm, static_cast<int>(args.input.c), args.wide_norm != 0}};
  const CorrectedRange<wide> grad{range, args.grad_output, static_cast<int>(args.grad_first_row),
                                  correction(args.grad_output, args.wide_correction != 0)};
  Tile tile;
  multiply<Contiguous::index, Contiguous::index>(tile, y, grad, row, column, 0, range.count, memory.product);
  write_tile_part(tile, row, column, rows, columns, args.partial_weight + part * rows * columns);
}

LADDERSEG_SIMT_KERNEL(bn_relu_conv3x3_weight, WeightArguments, kConv3x3Columns)
LADDERSEG_SIMT_KERNEL(bn_relu_conv3x3_weight_narrow, WeightArguments, kNarrowColumns)
LADDERSEG_TENSOR_KERNEL(bn_relu_conv3x3_weight_tensor, WeightArguments, kConv3x3Columns)
LADDERSEG_TENSOR_KERNEL(bn_relu_conv3x3_weight_tensor_narrow, WeightArguments, kNarrowColumns)

}  // namespace ladderseg::cuda
