// The fused BN-ReLU-conv1x1 forward on one tile of pixels, shared by the operators that project.
#pragma once

#include <cstring>

#include "gemm.h"
#include "prefetch.h"
#include "scratch.h"
#include "transpose.h"

namespace ladderseg {
namespace LADDERSEG_ISA {

// Pixels of a tile: a multiple of every register block's rows; inputs, products and sums of a tile fit the
// second-level cache.
constexpr int64_t kTilePixels = 96;
// Input channels normalised and multiplied at a time: a panel of the weight (depth x columns) stays in the
// first-level cache.
constexpr int64_t kDepth = 128;
// Padding of rows in scratch, so that successive rows do not fall on the same cache set.
constexpr int64_t kRowPadding = 16;

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

// Scratch of one member for the tiles of a projection to `outputs` channels.
template <class T>
struct ProjectionTile {
  static constexpr int64_t normalised_row = kDepth + kRowPadding;
  int64_t product_row;   // elements from pixel to pixel of the product
  Region<T> normalised;  // [kTilePixels, normalised_row]
  Region<T> product;     // [kTilePixels, product_row]

  LADDERSEG_INLINE ProjectionTile(ScratchLayout& layout, int64_t outputs)
      : product_row(round_up<int64_t>(outputs, RegisterBlock<T>::columns) + kRowPadding),
        normalised(layout.add<T>(kTilePixels * normalised_row)),
        product(layout.add<T>(kTilePixels * product_row)) {}

  // product[p, m] = sum_c packed(c, m) * relu((x - mean) * scale + shift) for `pixels` <= kTilePixels pixels from `x`.
  // The `next_pixels` of the next tile follow them; the products go to `output` next.
  LADDERSEG_INLINE void run(char* base, const T* x, int64_t pixel_stride, int64_t pixels, int64_t next_pixels,
                            int64_t channels, int64_t outputs, const Norm<T>& norm, const T* packed, const T* output,
                            int64_t output_stride) const {
    using Block = RegisterBlock<T>;
    T* const y = normalised.in(base);
    T* const z = product.in(base);
    const int64_t rows = round_up<int64_t>(pixels, Block::rows);
    const int64_t panels = round_up<int64_t>(outputs, Block::columns) / Block::columns;
    for (int64_t first = 0; first < channels; first += kDepth) {
      const int64_t depth = smaller(kDepth, channels - first);
      for (int64_t p = 0; p < pixels; ++p) {
        const T* __restrict from = x + p * pixel_stride + first;
        const T* __restrict mean = norm.mean + first;
        const T* __restrict scale = norm.scale + first;
        const T* __restrict shift = norm.shift + first;
        T* __restrict to = y + p * normalised_row;
        for (int64_t c = 0; c < depth; ++c) to[c] = relu((from[c] - mean[c]) * scale[c] + shift[c]);
      }
      for (int64_t p = pixels; p < rows; ++p) std::memset(y + p * normalised_row, 0, depth * sizeof(T));
      const int64_t next = first + kDepth < channels ? first + kDepth : 0;
      const T* next_x = x + (next ? 0 : pixels * pixel_stride) + next;
      const int64_t next_count = next ? pixels : next_pixels, next_width = smaller(kDepth, channels - next);
      const int64_t parts = panels * (rows / Block::rows);
      for (int64_t panel = 0; panel < panels; ++panel) {
        const T* b = packed + (panel * channels + first) * Block::columns;
        for (int64_t p = 0; p < rows; p += Block::rows) {
          T* c = z + p * product_row + panel * Block::columns;
          const int64_t part = panel * (rows / Block::rows) + p / Block::rows;
          prefetch_rows(next_x, pixel_stride, next_count, next_width, part, parts);
          if (next == 0) prefetch_rows(output, output_stride, pixels, outputs, part, parts);
          if (first == 0)
            multiply<false>(depth, y + p * normalised_row, normalised_row, 1, b, c, product_row);
          else
            multiply<true>(depth, y + p * normalised_row, normalised_row, 1, b, c, product_row);
        }
      }
    }
  }
};

}  // namespace LADDERSEG_ISA
}  // namespace ladderseg
