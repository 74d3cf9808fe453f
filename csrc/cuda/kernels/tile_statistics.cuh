// A tile's part of the statistics of a map that is computed tile by tile.
#pragma once

#include "product.cuh"

namespace ladderseg::cuda {

template <class Tile>
struct TileStatisticsMemory {
  ColumnSums<Tile> sums;
  Real means[Tile::kColumns];
};

// Of the tile's first `rows` rows, which are what is stored, exactly in two passes. `columns` are left of the map from
// this tile's first on; `partial` is where the first one's mean goes, and its sum of squared deviations `stride` behind
// it.
template <class Tile>
LADDERSEG_DEVICE void write_tile_statistics(const Tile& tile, int rows, int64 columns, Real* partial, int64 stride,
                                            TileStatisticsMemory<Tile>& memory) {
  const int thread = threadIdx.x;
  const bool writes = thread < Tile::kColumns && thread < columns;
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
    if (writes) partial[thread] = memory.means[thread];
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
  if (writes) partial[stride + thread] = memory.sums.total(thread);
}

}  // namespace ladderseg::cuda
