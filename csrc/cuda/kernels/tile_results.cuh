// Results of a product's tile: the statistics of a map that is computed tile by tile, the sums for a batch norm's
// backward, and a part of a weight gradient. All threads of the block call these functions together.
#pragma once

#include "channel_norm.cuh"
#include "product.cuh"

namespace ladderseg::cuda {

template <class Tile>
struct TileStatisticsMemory {
  ColumnSums<Tile> sums;
  Real means[Tile::kColumns];
};

// The statistics of what is stored of a tile from channel `column` on, exactly in two passes: `partial` [2][channels]
// gets the means and the sums of squared deviations. `there(i)` says whether row i of the thread exists, `count` is the
// number of the tile's rows that do; without any, the statistics are zeros.
template <class Tile, class There>
LADDERSEG_DEVICE void write_tile_statistics(const Tile& tile, int count, const There& there, Real* partial,
                                            int64 channels, int column, TileStatisticsMemory<Tile>& memory) {
  const int thread = threadIdx.x;
  const bool writes = thread < Tile::kColumns && column + thread < channels;
  partial += column + thread;
  Real values[Tile::kThreadColumns];
#pragma unroll
  for (int j = 0; j < Tile::kThreadColumns; ++j) {
    values[j] = Real(0);
#pragma unroll
    for (int i = 0; i < Tile::kThreadRows; ++i)
      if (there(i)) values[j] += tile.sums[i][j];
  }
  memory.sums.add_up(values);
  if (thread < Tile::kColumns) {
    const Real mean = count ? memory.sums.total(thread) / static_cast<Real>(count) : Real(0);
    memory.means[thread] = mean;
    if (writes) partial[0] = mean;
  }
  __syncthreads();
#pragma unroll
  for (int j = 0; j < Tile::kThreadColumns; ++j) {
    const Real mean = memory.means[Tile::column(j)];
    values[j] = Real(0);
#pragma unroll
    for (int i = 0; i < Tile::kThreadRows; ++i) {
      const Real deviation = tile.sums[i][j] - mean;
      if (there(i)) values[j] += deviation * deviation;
    }
  }
  memory.sums.add_up(values);
  if (writes) partial[channels] = memory.sums.total(thread);
}

template <class Tile>
struct TileGradientMemory {
  ColumnSums<Tile> masked, centred;
};

// The sums of a batch norm's backward over a tile's rows, of which each thread has its part, as part `part` of
// args.partial_sums, from channel `column` on.
template <class Tile, class Arguments>
LADDERSEG_DEVICE void write_tile_sums(const Arguments& args, const Real (&masked)[Tile::kThreadColumns],
                                      const Real (&centred)[Tile::kThreadColumns], int64 part, int column,
                                      TileGradientMemory<Tile>& memory) {
  memory.masked.add_up(masked);
  memory.centred.add_up(centred);
  const int thread = threadIdx.x, columns = static_cast<int>(args.input.c);
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
