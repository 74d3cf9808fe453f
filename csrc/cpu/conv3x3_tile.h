// Sizes and loops that the forward and the backward of the 3x3 convolution share.
#pragma once

#include "gemm.h"
#include "prefetch.h"
#include "scratch.h"
#include "winograd.h"

namespace ladderseg {
namespace LADDERSEG_ISA {

// Bytes of transformed tiles that a member works on at a time: with the transformed weights they fit its second-level
// cache.
constexpr int64_t kBlockBytes = 224 * 1024;
constexpr int64_t kMaxBlockTiles = 24;
// Number of channels per partial sum of products: rounding grows with the length of a sum.
constexpr int64_t kPartLength = 128;
// Padding of rows in scratch, so that successive rows do not fall on the same cache set.
constexpr int64_t kTileRowPadding = 16;

// Tiles to work on at a time, with `channels` at each point: a multiple of the register block's rows.
template <class T>
LADDERSEG_INLINE int64_t block_tiles(int64_t channels) {
  constexpr int64_t rows = RegisterBlock<T>::rows;
  const int64_t fitting = kBlockBytes / (kPoints * channels * static_cast<int64_t>(sizeof(T))) / rows * rows;
  return fitting < rows ? rows : smaller(fitting, kMaxBlockTiles / rows * rows);
}

// Transformed input tiles of a block: point i, tile t, channel c at [i * point_stride + t * row + c].
template <class T>
struct InputTiles {
  int64_t channels, row, point_stride;
  Region<T> tiles;

  InputTiles(ScratchLayout& layout, int64_t channels, int64_t block)
      : channels(channels),
        row(round_up<int64_t>(channels, 16) + kTileRowPadding),
        point_stride(block * row),
        tiles(layout.add<T>(kPoints * point_stride)) {}

  template <class Source>
  LADDERSEG_INLINE void fill(char* base, const Source& source, const TileGrid& grid, int64_t first_row, int64_t first,
                             int64_t count) const {
    for_each_run(grid, first, count, [&](const TileRun& run, int64_t offset) {
      for_each_channel_vector<T>(channels, [&](int64_t c, auto v) {
        transform_input<decltype(v)>(source, run, first_row, grid.dilation, c, tiles.in(base) + offset * row + c, row,
                                     point_stride);
      });
    });
  }
};

// Products of a block's tiles with one panel of transformed weights: point i, tile t at [(i * block + t) * columns].
template <class T>
struct PanelProducts {
  using Block = RegisterBlock<T>;
  int64_t point_stride;
  Region<T> products;

  PanelProducts(ScratchLayout& layout, int64_t block)
      : point_stride(block * Block::columns), products(layout.add<T>(kPoints * point_stride)) {}

  // `panel` is [kPoints][input.channels][columns]. Calls meanwhile(part, parts) for each of its parts.
  template <class Meanwhile>
  LADDERSEG_INLINE void run(char* base, const InputTiles<T>& input, int64_t count, const T* panel,
                            const Meanwhile& meanwhile) const {
    const int64_t depth = input.channels;
    const int64_t row_blocks = round_up<int64_t>(count, Block::rows) / Block::rows;
    for (int64_t i = 0; i < kPoints; ++i)
      for (int64_t first = 0; first < depth; first += kPartLength) {
        const int64_t part = smaller(kPartLength, depth - first);
        const T* b = panel + (i * depth + first) * Block::columns;
        for (int64_t r = 0; r < row_blocks; ++r) {
          if (first == 0) meanwhile(i * row_blocks + r, kPoints * row_blocks);
          const int64_t t = r * Block::rows;
          const T* a = input.tiles.in(base) + i * input.point_stride + t * input.row + first;
          T* c = products.in(base) + i * point_stride + t * Block::columns;
          if (first == 0)
            multiply<false>(part, a, input.row, 1, b, c, Block::columns);
          else
            multiply<true>(part, a, input.row, 1, b, c, Block::columns);
        }
      }
  }
};

// Prefetches the pixels of `map` under part `part` of `parts` of tiles [first, first + count), if the map has them.
// A tile has `rows` rows from `first_row` on and two columns of its own.
template <class T>
LADDERSEG_INLINE void prefetch_tiles(const FeatureMap<const T>& map, const TileGrid& grid, int64_t first_row, int rows,
                                     int64_t first, int64_t count, int64_t part, int64_t parts) {
  if (count <= 0) return;
  const int64_t begin = count * part / parts, end = count * (part + 1) / parts;
  for_each_run(grid, first + begin, end - begin, [&](const TileRun& run, int64_t) {
    for (int a = 0; a < rows; ++a) {
      const int64_t y = run.y + first_row + a * grid.dilation;
      if (y < 0 || y >= map.h) continue;
      const int64_t last = smaller(map.w, run.x + 2 * run.tiles * grid.dilation);
      for (int64_t x = run.x; x < last; x += grid.dilation) prefetch(map.at(run.image, y, x), map.c);
    }
  });
}

// The pixels of a block's tiles, four to a tile: their numbers in two maps, or -1 outside the grid.
struct TilePixels {
  Region<int64_t> first, second;

  TilePixels(ScratchLayout& layout, int64_t block)
      : first(layout.add<int64_t>(4 * block)), second(layout.add<int64_t>(4 * block)) {}

  // The first map begins at the grid's row 0; row 0 of the grid is row `second_row` of the second, of `second_height`.
  LADDERSEG_INLINE void fill(char* base, const TileGrid& grid, int64_t second_row, int64_t second_height,
                             int64_t first_tile, int64_t count) const {
    for_each_run(grid, first_tile, count, [&](const TileRun& run, int64_t offset) {
      for (int64_t t = 0; t < run.tiles; ++t)
        for (int64_t i = 0; i < 4; ++i) {
          const int64_t y = run.y + i / 2 * grid.dilation, x = run.x + (2 * t + i % 2) * grid.dilation;
          const bool inside = y < grid.height && x < grid.width;
          const int64_t at = 4 * (offset + t) + i;
          first.in(base)[at] = inside ? (run.image * grid.height + y) * grid.width + x : -1;
          second.in(base)[at] = inside ? (run.image * second_height + y + second_row) * grid.width + x : -1;
        }
    });
  }
};

}  // namespace LADDERSEG_ISA
}  // namespace ladderseg
