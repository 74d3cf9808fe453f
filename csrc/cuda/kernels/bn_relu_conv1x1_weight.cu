// Backward of batch norm, rectification and 1x1 convolution, for the weight: see ladderseg/bn_relu_conv1x1.h.
//
// The product is grad_weight[m, c] = sum over p of grad_output[p, m] * y[p, c]. The result is small and the sum is
// long, so parts of the sum are computed by different blocks and added up in a fixed order.
#include "bn_relu_conv1x1.h"
#include "tile_results.cuh"

namespace ladderseg::cuda {

using WeightArguments = BnReluConv1x1WeightArguments<Element, Real>;

template <class Tile>
using Memory = ProductMemory<Tile, Contiguous::index, Contiguous::index>;

// With `wide`, the rows of grad_output and input are whole chunks of 16 bytes.
template <class Tile, bool wide>
LADDERSEG_DEVICE void work(const WeightArguments& args, Memory<Tile>& memory) {
  // Blocks of one part of the pixels follow each other, so that what they share is read from memory once.
  const int tiles = args.row_tiles * args.column_tiles;
  const int64 part = blockIdx.x / tiles;
  const int tile_number = static_cast<int>(blockIdx.x % tiles);
  const int row = tile_number / args.column_tiles * Tile::kRows;
  const int column = tile_number % args.column_tiles * Tile::kColumns;
  const int rows = static_cast<int>(args.grad_output.grad.c), columns = static_cast<int>(args.input.c);
  const int64 begin = part * args.pixels_per_part;
  const int count = static_cast<int>(smaller(args.pixels_per_part, args.input.pixels() - begin));
  const Corrected<wide> grad{pixels_from(args.grad_output, begin), count, rows};
  const Rectified<wide> y{pixels_from(args.input, begin), args.norm, count, columns};
  Tile tile;
  multiply<Contiguous::index, Contiguous::index>(tile, grad, y, row, column, count, memory);
  write_tile_part(tile, row, column, rows, columns, args.partial_weight + part * rows * columns);
}

LADDERSEG_SIMT_KERNEL(bn_relu_conv1x1_weight, WeightArguments, kBackwardColumns)
LADDERSEG_TENSOR_KERNEL(bn_relu_conv1x1_weight_tensor, WeightArguments, kBackwardColumns)

}  // namespace ladderseg::cuda
