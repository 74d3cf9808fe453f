// Backward of batch norm, rectification and 3x3 convolution, for the input: see ladderseg/bn_relu_conv3x3.h.
//
// The product is g[p, c] = sum over taps and k of grad_output[p moved back by the tap, k] * weight[tap, k, c]. It is
// masked and summed where it is computed, and never stored.
#include "bn_relu_conv3x3.h"
#include "patch_sources.cuh"
#include "product.cuh"

namespace ladderseg::cuda {

using DataArguments = BnReluConv3x3DataArguments<Element, Real>;

template <class Tile>
struct Memory {
  ProductMemory<Tile, Contiguous::depth, Contiguous::index> product;
  Neighbours<Tile::kRows> neighbours;
  ColumnSums<Tile> masked, centred;
};

// The sums over this thread's rows of one piece of its columns; writes grad_input. `neighbours` are those of the input.
template <class Tile, int piece>
LADDERSEG_DEVICE void finish_piece(const DataArguments& args, const Tile& tile,
                                   const Neighbours<Tile::kRows>& neighbours, int64 row, int c, int j,
                                   Real (&masked_sums)[piece], Real (&centred_sums)[piece]) {
  const int64 count = args.grad_input.pixels();
  const int left = static_cast<int>(args.input.c) - c;
  Real mean[piece], scale[piece], shift[piece];
#pragma unroll
  for (int k = 0; k < piece; ++k) {
    const bool there = k < left;
    mean[k] = there ? args.norm.mean[c + k] : Real(0);
    scale[k] = there ? args.norm.scale[c + k] : Real(0);
    shift[k] = there ? args.norm.shift[c + k] : Real(0);
    masked_sums[k] = centred_sums[k] = Real(0);
  }
#pragma unroll
  for (int i = 0; i < Tile::kThreadRows; ++i) {
    const int64 p = row + Tile::row(i);
    if (p >= count || left <= 0) continue;
    Real x[piece], result[piece];
    load_piece(args.input.pixel(neighbours.row[Tile::row(i)].centre) + c, left, args.wide_input != 0, x);
#pragma unroll
    for (int k = 0; k < piece; ++k) {
      const Real m = masked(normalised(x[k], mean[k], scale[k], shift[k]), tile.sums[i][j + k]);
      masked_sums[k] += m;
      centred_sums[k] += m * (x[k] - mean[k]);
      result[k] = scale[k] * m;
    }
    store_piece(args.grad_input.pixel(p) + c, left, args.wide_input != 0, result);
  }
}

// With `wide`, the rows of grad_output and weight are whole chunks of 16 bytes.
template <class Tile, bool wide>
LADDERSEG_DEVICE void backward(const DataArguments& args, Memory<Tile>& memory) {
  const int64 row_tile = blockIdx.x / args.column_tiles, row = row_tile * Tile::kRows;
  const int column = static_cast<int>(blockIdx.x % args.column_tiles) * Tile::kColumns;
  const int depth = kTaps * args.grad_channels.value, columns = static_cast<int>(args.input.c);
  const Strip strip = {args.grad_input.n, args.grad_input.h, args.grad_input.w};
  memory.neighbours.find(strip, row, args.grad_first_row, args.grad_output.grad.h, -args.dilation);
  const CorrectedPatches<wide, Tile::kRows> grad{args.grad_output, args.grad_channels, memory.neighbours,
                                                 correction(args.grad_output, args.wide_correction != 0)};
  const Matrix<wide> weight{args.weight, depth, args.padded_channels};
  Tile tile;
  multiply<Contiguous::depth, Contiguous::index>(tile, grad, weight, 0, column, 0, depth, memory.product);
  memory.neighbours.find(strip, row, args.input_first_row, args.input.h, args.dilation);
  constexpr int kPiece = Tile::kColumnPiece;
  Real masked_sums[Tile::kThreadColumns], centred_sums[Tile::kThreadColumns];
#pragma unroll
  for (int j = 0; j < Tile::kThreadColumns; j += kPiece) {
    Real masked_piece[kPiece], centred_piece[kPiece];
    finish_piece(args, tile, memory.neighbours, row, column + Tile::column(j), j, masked_piece, centred_piece);
#pragma unroll
    for (int k = 0; k < kPiece; ++k) {
      masked_sums[j + k] = masked_piece[k];
      centred_sums[j + k] = centred_piece[k];
    }
  }
  memory.masked.add_up(masked_sums);
  memory.centred.add_up(centred_sums);
  const int thread = threadIdx.x;
  if (thread < Tile::kColumns && column + thread < columns) {
    Real* const partial = args.partial_sums + 2 * args.input.c * row_tile + column + thread;
    partial[0] = memory.masked.total(thread);
    partial[columns] = memory.centred.total(thread);
  }
}

extern "C" __global__ void __launch_bounds__(kProductThreads, 2)
    LADDERSEG_KERNEL(bn_relu_conv3x3_data)(const DataArguments args) {
  using Tile = SimtTile<kConv3x3Columns>;
  __shared__ Memory<Tile> memory;
  if (args.wide)
    backward<Tile, true>(args, memory);
  else
    backward<Tile, false>(args, memory);
}

#if LADDERSEG_TENSOR_CORES
extern "C" __global__ void __launch_bounds__(kProductThreads, kTensorBlocks)
    LADDERSEG_KERNEL(bn_relu_conv3x3_data_tensor)(const DataArguments args) {
  using Tile = TensorTile<kConv3x3Columns>;
  __shared__ Memory<Tile> memory;
  backward<Tile, true>(args, memory);
}
#endif

}  // namespace ladderseg::cuda
