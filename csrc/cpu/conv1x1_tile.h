// The fused BN-ReLU-conv1x1 forward on one tile of pixels, shared by the operators that project.
#pragma once

#include <cstring>

#include "gemm.h"
#include "prefetch.h"
#include "scratch.h"
#include "transpose.h"

namespace ladderseg {
namespace LADDERSEG_ISA {

// Pixels of a tile: a multiple of every register block's rows.
constexpr int64_t kTilePixels = 96;
// Input channels normalised at a time: their tile, the next tile's input and the products fit the second-level cache.
constexpr int64_t kNormalisedChannels = 512;
// Input channels multiplied at a time: this part of a panel of the weight and the panel's products stay in the
// first-level cache. Rounding errors grow with the length of a part.
constexpr int64_t kDepth = 128;
// Padding of rows in scratch, so that successive rows do not fall on the same cache set.
constexpr int64_t kRowPadding = 16;
constexpr int64_t kNormalisedRow = kDepth + kRowPadding;

// weight [M, C] as panels [M / columns][C][columns], zeros beyond M.
template <class T>
LADDERSEG_INLINE void pack_transposed(const T* weight, int64_t outputs, int64_t channels, int64_t first_panel,
                                      int64_t last_panel, T* packed) {
  constexpr int64_t columns = RegisterBlock<T>::columns, lanes = Simd<T>::lanes;
  for (int64_t panel = first_panel; panel < last_panel; ++panel)
    for (int64_t j = 0; j < columns; j += lanes) {
      const int64_t first = smaller(panel * columns + j, outputs), rows = smaller(lanes, outputs - first);
      transpose_rows(weight + first * channels, channels, rows, channels, packed + panel * channels * columns + j,
                     columns);
    }
}

// Copies `pixels` rows of a finished panel, `count` elements of each.
template <class T>
LADDERSEG_INLINE void copy_products(const T* product, int64_t pixels, int64_t count, T* to, int64_t to_stride) {
  constexpr int64_t columns = RegisterBlock<T>::columns;
  for (int64_t p = 0; p < pixels; ++p)
    if (count == columns)
      std::memcpy(to + p * to_stride, product + p * columns, columns * sizeof(T));
    else
      std::memcpy(to + p * to_stride, product + p * columns, count * sizeof(T));
}

// Scratch of one member for the tiles of a projection of `channels` to `outputs` channels.
template <class T>
struct ProjectionTile {
  using Block = RegisterBlock<T>;
  int64_t channels, outputs;
  int64_t panels;        // of outputs
  Region<T> normalised;  // [parts of kDepth channels][kTilePixels, kNormalisedRow]
  Region<T> products;    // [panels][kTilePixels, columns], or of one panel if no sums wait for more input channels

  LADDERSEG_INLINE ProjectionTile(ScratchLayout& layout, int64_t channels, int64_t outputs)
      : channels(channels),
        outputs(outputs),
        panels(round_up<int64_t>(outputs, Block::columns) / Block::columns),
        normalised(layout.add<T>(round_up(smaller(channels, kNormalisedChannels), kDepth) / kDepth * kTilePixels *
                                 kNormalisedRow)),
        products(layout.add<T>((channels > kNormalisedChannels ? panels : 1) * kTilePixels * Block::columns)) {}

  // product[p, m] = sum_c packed(c, m) * relu((x - mean) * scale + shift) for `pixels` <= kTilePixels pixels from `x`.
  // Calls finish(m, count, product), with product [pixels, columns] in the first-level cache, for `count` outputs at a
  // time. The `next_pixels` of the next tile follow these in x; `output` is where the caller writes.
  template <class Finish>
  LADDERSEG_INLINE void run(char* base, const T* x, int64_t pixel_stride, int64_t pixels, int64_t next_pixels,
                            const Norm<T>& norm, const T* packed, const T* output, int64_t output_stride,
                            const Finish& finish) const {
    const int64_t row_blocks = round_up<int64_t>(pixels, Block::rows) / Block::rows;
    for (int64_t first = 0; first < channels; first += kNormalisedChannels) {
      const int64_t width = smaller(kNormalisedChannels, channels - first);
      const bool last = first + width == channels;
      normalise(base, x + first, pixel_stride, pixels, row_blocks * Block::rows, norm, first, width);
      const int64_t next = last ? 0 : first + width;
      const T* next_x = x + (last ? pixels * pixel_stride : 0) + next;
      const int64_t next_count = last ? next_pixels : pixels,
                    next_width = smaller(kNormalisedChannels, channels - next);
      const int64_t slices = round_up(width, kDepth) / kDepth, parts = panels * slices * row_blocks;
      int64_t part = 0;
      for (int64_t panel = 0; panel < panels; ++panel) {
        const int64_t m = panel * Block::columns, count = smaller<int64_t>(Block::columns, outputs - m);
        T* const product =
            products.in(base) + (channels > kNormalisedChannels ? panel * kTilePixels * Block::columns : 0);
        for (int64_t done = 0; done < width; done += kDepth) {
          const int64_t depth = smaller(kDepth, width - done);
          const T* b = packed + (panel * channels + first + done) * Block::columns;
          for (int64_t i = 0; i < row_blocks; ++i, ++part) {
            prefetch_rows(next_x, pixel_stride, next_count, next_width, part, parts);
            if (last)
              prefetch_rows(output + m, output_stride, pixels, count, part % (slices * row_blocks),
                            slices * row_blocks);
            const T* a = normalised.in(base) + (done / kDepth * kTilePixels + i * Block::rows) * kNormalisedRow;
            T* c = product + i * Block::rows * Block::columns;
            if (first + done == 0)
              multiply_part<false>(depth, a, b, c);
            else
              multiply_part<true>(depth, a, b, c);
          }
        }
        if (last) finish(m, count, product);
      }
    }
  }

 private:
  // A function of its own: the registers of its loop do not depend on what is inlined around it.
  template <bool accumulate>
  static __attribute__((noinline)) void multiply_part(int64_t depth, const T* normalised, const T* packed, T* product) {
    multiply<accumulate>(depth, normalised, kNormalisedRow, 1, packed, product, Block::columns);
  }

  LADDERSEG_INLINE void normalise(char* base, const T* x, int64_t pixel_stride, int64_t pixels, int64_t rows,
                                  const Norm<T>& norm, int64_t first, int64_t width) const {
    for (int64_t done = 0; done < width; done += kDepth) {
      const int64_t depth = smaller(kDepth, width - done);
      T* const y = normalised.in(base) + done * kTilePixels / kDepth * kNormalisedRow;
      const T* __restrict mean = norm.mean + first + done;
      const T* __restrict scale = norm.scale + first + done;
      const T* __restrict shift = norm.shift + first + done;
      for (int64_t p = 0; p < pixels; ++p) {
        const T* __restrict from = x + p * pixel_stride + done;
        T* __restrict to = y + p * kNormalisedRow;
        for (int64_t c = 0; c < depth; ++c) to[c] = relu((from[c] - mean[c]) * scale[c] + shift[c]);
      }
      for (int64_t p = pixels; p < rows; ++p) std::memset(y + p * kNormalisedRow, 0, depth * sizeof(T));
    }
  }
};

}  // namespace LADDERSEG_ISA
}  // namespace ladderseg
