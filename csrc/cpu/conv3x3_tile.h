// Sizes and loops that the forward and the backward of the 3x3 convolution share.
#pragma once

#include "gemm.h"
#include "prefetch.h"
#include "scratch.h"
#include "winograd.h"

namespace ladderseg {
namespace LADDERSEG_ISA {

// Bytes of transformed tiles that a member works on at a time: they stay in its second-level cache, through which the
// transformed weights pass.
constexpr int64_t kBlockBytes = 224 * 1024;
constexpr int64_t kMaxBlockTiles = 24;
// Number of channels per partial sum of products: rounding grows with the length of a sum. Beside that of bfloat16 it
// is small.
template <class T>
constexpr int64_t kPartLength = std::is_same_v<T, BFloat16> ? 256 : 64;
// Padding of rows and points in scratch, so that successive ones do not fall on the same cache set.
constexpr int64_t kTilePadding = 16;

// Tiles to work on at a time, with `channels` at each point: a multiple of the register block's rows.
template <class T, class Filter>
LADDERSEG_INLINE int64_t block_tiles(int64_t channels) {
  constexpr int64_t rows = RegisterBlock<T>::rows;
  const int64_t fitting = kBlockBytes / (kPoints<Filter> * channels * static_cast<int64_t>(sizeof(T))) / rows * rows;
  return fitting < rows ? rows : smaller(fitting, kMaxBlockTiles / rows * rows);
}

// Whether transformed tiles and filters are rounded to 16 bits.
template <class T>
constexpr bool rounds = std::is_same_v<T, BFloat16>;

// Calls body(MinimalFilter{}) with the filter of the grid's tiles.
template <class Body>
LADDERSEG_INLINE void with_filter(const TileGrid& grid, const Body& body) {
  if (grid.side == 2)
    body(MinimalFilter<2>{});
  else
    body(MinimalFilter<4>{});
}

// Transformed input tiles of a block: point i, tile t, channel c at [i * point_stride + t * row + c].
template <class T, class Filter>
struct InputTiles {
  int64_t channels, row, point_stride;
  Region<T> tiles;

  InputTiles(ScratchLayout& layout, int64_t channels, int64_t block)
      : channels(channels),
        row(round_up<int64_t>(channels, 16) + kTilePadding),
        point_stride(block * row + kTilePadding),
        tiles(layout.add<T>(kPoints<Filter> * point_stride)) {}

  // Fills in channels [from, from + channels) of the source.
  template <class Source>
  LADDERSEG_INLINE void fill(char* base, const Source& source, const TileGrid& grid, int64_t first_row, int64_t first,
                             int64_t count, int64_t from, int64_t channels) const {
    for_each_run(grid, first, count, [&](const TileRun& run, int64_t offset) {
      for_each_channel_vector<T>(channels, [&](int64_t c, auto v) {
        transform_input<Filter, decltype(v)>(source, run, first_row, grid.dilation, from + c,
                                             tiles.in(base) + offset * row + c, row, point_stride);
      });
    });
    if constexpr (kPair<T> > 1)
      if (channels % kPair<T>)
        for (int64_t i = 0; i < kPoints<Filter>; ++i)
          for (int64_t t = 0; t < count; ++t) tiles.in(base)[i * point_stride + t * row + channels] = T{};
  }
};

// Products of a block's tiles with one panel of transformed weights: point i, tile t at
// [i * point_stride + t * columns].
template <class T, class Filter>
struct PanelProducts {
  using Real = RealOf<T>;
  using Block = RegisterBlock<T>;
  int64_t point_stride;
  Region<Real> products;

  PanelProducts(ScratchLayout& layout, int64_t block)
      : point_stride(block * Block::columns + kTilePadding),
        products(layout.add<Real>(kPoints<Filter> * point_stride)) {}

  // Distance between the points of a panel of transformed weights with `depth` input channels.
  static LADDERSEG_INLINE int64_t weight_stride(int64_t depth) {
    return panel_rows<T>(depth) * Block::columns + kTilePadding;
  }

  // `panel` is [kPoints][weight_stride] of [panel_rows of input.channels][columns]. Calls meanwhile(part, parts) before
  // each of its products.
  template <class Meanwhile>
  LADDERSEG_INLINE void run(char* base, const InputTiles<T, Filter>& input, int64_t count, const T* panel,
                            const Meanwhile& meanwhile) const {
    const int64_t depth = input.channels;
    const int64_t parts = round_up(depth, kPartLength<T>) / kPartLength<T> * kPoints<Filter>;
    for (int64_t i = 0; i < kPoints<Filter>; ++i) {
      const T* a = input.tiles.in(base) + i * input.point_stride;
      Real* c = products.in(base) + i * point_stride;
      for (int64_t first = 0; first < depth; first += kPartLength<T>) {
        meanwhile(i * parts / kPoints<Filter> + first / kPartLength<T>, parts);
        const int64_t part = smaller(kPartLength<T>, depth - first);
        const T* b = panel + i * weight_stride(depth) + first * Block::columns;
        if (first == 0)
          multiply_tiles<false>(count, part, a, input.row, b, c);
        else
          multiply_tiles<true>(count, part, a + first, input.row, b, c);
      }
    }
  }

 private:
  // Few tiles that remain take half of the register block's rows.
  template <bool accumulate>
  LADDERSEG_INLINE void multiply_tiles(int64_t count, int64_t depth, const T* a, int64_t row, const T* b,
                                       Real* c) const {
    constexpr int rows = Block::rows, half = rows / 2;
    int64_t t = 0;
    for (; t + half < count; t += rows)
      multiply<accumulate>(depth, a + t * row, row, 1, b, c + t * Block::columns, Block::columns);
    if (t >= count) return;
    if constexpr (kPair<T> > 1)
      multiply<accumulate, half>(depth, a + t * row, row, 1, b, c + t * Block::columns, Block::columns);
    else
      multiply<accumulate, T, half>(depth, a + t * row, row, 1, b, c + t * Block::columns, Block::columns);
  }
};

// Numbers of the pixels of a map that a later block of tiles reads, to prefetch them in many small parts: requests
// beyond what a core can wait for at a time are lost.
template <class Filter>
struct NextPixels {
  Region<int64_t> numbers;

  NextPixels(ScratchLayout& layout, int64_t block)
      : numbers(layout.add<int64_t>(block * Filter::inputs * Filter::results)) {}

  // Fills in the pixels under tiles [first, first + tiles) that the map has, and returns how many there are. Row 0 of
  // the grid is row `first_row` of the map. Neighbouring tiles share two columns, which count once.
  template <class T>
  LADDERSEG_INLINE int64_t fill(char* base, const FeatureMap<const T>& map, const TileGrid& grid, int64_t first_row,
                                int64_t first, int64_t tiles) const {
    int64_t* to = numbers.in(base);
    for_each_run(grid, first, tiles, [&](const TileRun& run, int64_t) {
      for (int64_t a = -1; a < Filter::inputs - 1; ++a) {
        const int64_t y = run.y + first_row + a * grid.dilation;
        if (y < 0 || y >= map.h) continue;
        const int64_t row = (run.image * map.h + y) * map.w;
        const int64_t last = smaller(map.w, run.x + Filter::results * run.tiles * grid.dilation);
        for (int64_t x = run.x; x < last; x += grid.dilation) *to++ = row + x;
      }
    });
    return to - numbers.in(base);
  }
};

// Prefetches part `part` of `parts` of the pixels of `map` with these numbers, those that are not negative.
template <class T>
LADDERSEG_INLINE void prefetch_pixels(const FeatureMap<const T>& map, const int64_t* numbers, int64_t count,
                                      int64_t part, int64_t parts) {
  const int64_t end = count * (part + 1) / parts;
  for (int64_t i = count * part / parts; i < end; ++i)
    if (numbers[i] >= 0) prefetch(map.pixel(numbers[i]), map.c);
}

// Channels [from, from + channels) of a map, or as many as it has.
template <class T>
LADDERSEG_INLINE FeatureMap<const T> channel_range(const FeatureMap<T>& map, int64_t from, int64_t channels) {
  return {map.data + from, map.n, map.h, map.w, smaller(channels, map.c - from), map.pixel_stride};
}

// The pixels of a block's tiles, one tile after the other: their numbers in two maps, or -1 outside the grid.
template <class Filter>
struct TilePixels {
  static constexpr int64_t pixels = kTilePixels<Filter>;
  Region<int64_t> first, second;

  TilePixels(ScratchLayout& layout, int64_t block)
      : first(layout.add<int64_t>(pixels * block)), second(layout.add<int64_t>(pixels * block)) {}

  // The first map begins at the grid's row 0; row 0 of the grid is row `second_row` of the second, of `second_height`.
  LADDERSEG_INLINE void fill(char* base, const TileGrid& grid, int64_t second_row, int64_t second_height,
                             int64_t first_tile, int64_t count) const {
    constexpr int64_t side = Filter::results;
    for_each_run(grid, first_tile, count, [&](const TileRun& run, int64_t offset) {
      for (int64_t t = 0; t < run.tiles; ++t)
        for (int64_t i = 0; i < pixels; ++i) {
          const int64_t y = run.y + i / side * grid.dilation, x = run.x + (side * t + i % side) * grid.dilation;
          const bool inside = y < grid.height && x < grid.width;
          const int64_t at = pixels * (offset + t) + i;
          first.in(base)[at] = inside ? (run.image * grid.height + y) * grid.width + x : -1;
          second.in(base)[at] = inside ? (run.image * second_height + y + second_row) * grid.width + x : -1;
        }
    });
  }
};

}  // namespace LADDERSEG_ISA
}  // namespace ladderseg
