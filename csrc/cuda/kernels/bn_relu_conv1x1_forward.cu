// Batch norm, rectification and 1x1 convolution: see ladderseg/bn_relu_conv1x1.h.
//
// The product is output[p, m] = sum over c of y[p, c] * weight[m, c]; y is made of x on the way to shared memory.
#include "bn_relu_conv1x1.h"
#include "product.cuh"

namespace ladderseg::cuda {

using ForwardArguments = BnReluConv1x1ForwardArguments<Element, Real>;

// The tile's part of the output's statistics: of what is stored, exactly in two passes.
template <class Tile>
LADDERSEG_DEVICE void write_statistics(const ForwardArguments& args, const Tile& tile, int64 row, int column,
                                       ColumnSums<Tile>& sums, Real (&means)[Tile::kColumns]) {
  const int rows = static_cast<int>(smaller(args.input.pixels() - row, Tile::kRows));
  const int thread = threadIdx.x;
  Real* const partial = args.partial_statistics + 2 * args.output.c * (blockIdx.x / args.column_tiles);
  Real values[Tile::kThreadColumns];
#pragma unroll
  for (int j = 0; j < Tile::kThreadColumns; ++j) {
    values[j] = Real(0);
#pragma unroll
    for (int i = 0; i < Tile::kThreadRows; ++i)
      if (Tile::row(i) < rows) values[j] += tile.sums[i][j];
  }
  sums.add_up(values);
  if (thread < Tile::kColumns) {
    means[thread] = sums.total(thread) / static_cast<Real>(rows);
    if (column + thread < args.output.c) partial[column + thread] = means[thread];
  }
  __syncthreads();
#pragma unroll
  for (int j = 0; j < Tile::kThreadColumns; ++j) {
    const Real mean = means[Tile::column(j)];
    values[j] = Real(0);
#pragma unroll
    for (int i = 0; i < Tile::kThreadRows; ++i) {
      const Real deviation = tile.sums[i][j] - mean;
      if (Tile::row(i) < rows) values[j] += deviation * deviation;
    }
  }
  sums.add_up(values);
  if (thread < Tile::kColumns && column + thread < args.output.c)
    partial[args.output.c + column + thread] = sums.total(thread);
}

template <class Tile>
struct Memory {
  ProductMemory<Tile, Contiguous::depth, Contiguous::depth> product;
  ColumnSums<Tile> sums;
  Real means[Tile::kColumns];
};

// With `wide`, the rows of input and weight are whole chunks of 16 bytes.
template <class Tile, bool wide>
LADDERSEG_DEVICE void forward(const ForwardArguments& args, Memory<Tile>& memory) {
  const int64 count = args.input.pixels();
  const int64 row = static_cast<int64>(blockIdx.x / args.column_tiles) * Tile::kRows;
  const int column = static_cast<int>(blockIdx.x % args.column_tiles) * Tile::kColumns;
  const int depth = static_cast<int>(args.input.c), columns = static_cast<int>(args.output.c);
  const Rectified<wide> y{args.input, args.norm, count, depth};
  const Matrix<wide> weight{args.weight, columns, depth};
  Tile tile;
  multiply<Contiguous::depth, Contiguous::depth>(tile, y, weight, row, column, 0, depth, memory.product);
  constexpr int kPiece = Tile::kColumnPiece;
  const int rows = static_cast<int>(smaller(count - row, Tile::kRows));
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
  if (args.partial_statistics) write_statistics(args, tile, row, column, memory.sums, memory.means);
}

extern "C" __global__ void __launch_bounds__(kProductThreads, 2)
    LADDERSEG_KERNEL(bn_relu_conv1x1_forward)(const ForwardArguments args) {
  using Tile = SimtTile<kSimtColumns>;
  __shared__ Memory<Tile> memory;
  forward<Tile, true>(args, memory);
}

// For few columns, and for rows that are not whole chunks.
extern "C" __global__ void __launch_bounds__(kProductThreads, 2)
    LADDERSEG_KERNEL(bn_relu_conv1x1_forward_narrow)(const ForwardArguments args) {
  using Tile = SimtTile<kNarrowColumns>;
  __shared__ Memory<Tile> memory;
  if (args.wide)
    forward<Tile, true>(args, memory);
  else
    forward<Tile, false>(args, memory);
}

#if LADDERSEG_TENSOR_CORES
extern "C" __global__ void __launch_bounds__(kProductThreads, kTensorBlocks)
    LADDERSEG_KERNEL(bn_relu_conv1x1_forward_tensor)(const ForwardArguments args) {
  using Tile = TensorTile<kTensorColumns>;
  __shared__ Memory<Tile> memory;
  forward<Tile, true>(args, memory);
}

extern "C" __global__ void __launch_bounds__(kProductThreads, kTensorBlocks)
    LADDERSEG_KERNEL(bn_relu_conv1x1_forward_tensor_narrow)(const ForwardArguments args) {
  using Tile = TensorTile<kNarrowColumns>;
  __shared__ Memory<Tile> memory;
  forward<Tile, true>(args, memory);
}
#endif

}  // namespace ladderseg::cuda
