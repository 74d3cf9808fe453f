// Results of a product's tile: the statistics of a map that is computed tile by tile, the gradient of a map before
// batch norm and relu with the sums for the batch norm's backward, and a part of a weight gradient.
#pragma once

#include "channel_norm.cuh"
#include "product.cuh"

namespace ladderseg::cuda {

template <class Tile>
struct TileStatisticsMemory {
  ColumnSums<Tile> sums;
  Real means[Tile::kColumns];
};

// The tile's part of args.output's statistics, of what is stored of it, exactly in two passes. The tile is at (row,
// column) of the output, in the order of blocks that args.column_tiles says; args.partial_statistics get the means and
// the sums of squared deviations, if they are wanted.
template <class Tile, class Arguments>
LADDERSEG_DEVICE void write_tile_statistics(const Arguments& args, const Tile& tile, int64 row, int column,
                                            TileStatisticsMemory<Tile>& memory) {
  if (!args.partial_statistics) return;
  const int rows = static_cast<int>(smaller(args.output.pixels() - row, Tile::kRows));
  const int thread = product_thread();
  Real* const partial = args.partial_statistics + 2 * args.output.c * (blockIdx.x / args.column_tiles);
  Real values[Tile::kThreadColumns];
#pragma unroll
  for (int j = 0; j < Tile::kThreadColumns; ++j) {
    values[j] = Real(0);
#pragma unroll
    for (int i = 0; i < Tile::kThreadRows; ++i)
      if (Tile::row(i) < rows) values[j] += tile.sums[i][j];
  }
  memory.sums.add_up(values);
  if (thread < Tile::kColumns) {
    memory.means[thread] = memory.sums.total(thread) / static_cast<Real>(rows);
    if (column + thread < args.output.c) partial[column + thread] = memory.means[thread];
  }
  __syncthreads();
#pragma unroll
  for (int j = 0; j < Tile::kThreadColumns; ++j) {
    const Real mean = memory.means[Tile::column(j)];
    values[j] = Real(0);
#pragma unroll
    for (int i = 0; i < Tile::kThreadRows; ++i) {
      const Real deviation = tile.sums[i][j] - mean;
      if (Tile::row(i) < rows) values[j] += deviation * deviation;
    }
  }
  memory.sums.add_up(values);
  if (thread < Tile::kColumns && column + thread < args.output.c)
    partial[args.output.c + column + thread] = memory.sums.total(thread);
}

template <class Tile>
struct TileGradientMemory {
  ColumnSums<Tile> masked, centred;
};

// The tile is the gradient of y, for pixels of grad_input from `row` on and channels from `column` on. Masked it is
// summed up, as part `part` of args.partial_sums, and scaled it becomes grad_input. With `general`, grad_input may have
// no data, and may be added to (args.accumulate). input_pixel(p, i) is the input's pixel for p, row i of the tile.
template <bool general, class Tile, class Arguments, class InputPixel>
LADDERSEG_DEVICE void write_tile_gradient(const Arguments& args, const Tile& tile, int64 row, int64 part, int column,
                                          const InputPixel& input_pixel, TileGradientMemory<Tile>& memory) {
  constexpr int kPiece = Tile::kColumnPiece;
  const int64 count = args.grad_input.pixels();
  const int columns = static_cast<int>(args.input.c);
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
      load_piece(args.input.pixel(input_pixel(p, Tile::row(i))) + c, left, args.wide_input != 0, x);
      if constexpr (general)
        if (args.accumulate) load_piece(args.grad_input.pixel(p) + c, left, args.wide_input != 0, result);
#pragma unroll
      for (int k = 0; k < kPiece; ++k) {
        const Real grad = sums.add(norm, k, x[k], tile.sums[i][j + k]);
        result[k] = general ? result[k] + grad : grad;
      }
      if (!general || args.grad_input.data)
        store_piece(args.grad_input.pixel(p) + c, left, args.wide_input != 0, result);
    }
#pragma unroll
    for (int k = 0; k < kPiece; ++k) {
      masked_sums[j + k] = sums.masked[k];
      centred_sums[j + k] = sums.centred[k];
    }
  }
  memory.masked.add_up(masked_sums);
  memory.centred.add_up(centred_sums);
  const int thread = product_thread();
  if (thread < Tile::kColumns && column + thread < columns) {
    Real* const partial = args.partial_sums + 2 * args.input.c * part + column + thread;
    partial[0] = memory.masked.total(thread);
    partial[columns] = memory.centred.total(thread);
  }
}

// The tile at (row, column) of a part [rows, columns] of a weight gradient.
template <class Tile, class Row>
LADDERSEG_DEVICE void write_tile_part(const Tile& tile, Row row, int column, int rows, int columns, Real* part) {
#pragma unroll
  for (int i = 0; i < Tile::kThreadRows; ++i) {
    const int64 m = row + Tile::row(i);
#pragma unroll
    for (int j = 0; j < Tile::kThreadColumns; ++j) {
      const int c = column + Tile::column(j);
      if (m < rows && c < columns) part[m * columns + c] = tile.sums[i][j];
    }
  }
}

}  // namespace ladderseg::cuda
