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
  const auto same_pixel = [](int64 p, int) { return p; };
  write_tile_gradient<true>(args, tile, row, row / Tile::kRows, column, same_pixel, memory.gradient);
}

LADDERSEG_SIMT_KERNEL(bn_relu_conv1x1_data, DataArguments, kBackwardColumns)
LADDERSEG_TENSOR_KERNEL(bn_relu_conv1x1_data_tensor, DataArguments, kBackwardColumns)

}  // namespace ladderseg::cuda
