// The fused BN-ReLU-conv1x1 forward on one tile of pixels, shared by the operators that project.
#pragma once

#include <cstring>

#include "bn_sums.h"
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
// first-level cache. Rounding errors grow with the length of a part; beside those of bfloat16 they are small.
template <class T>
constexpr int64_t kDepth = std::is_same_v<T, BFloat16> ? 256 : 128;
// Padding of rows in scratch, so that successive rows do not fall on the same cache set.
constexpr int64_t kRowPadding = 16;
template <class T>
constexpr int64_t kNormalisedRow = kDepth<T> + kRowPadding;

// weight [M, C] as panels [M / columns][panel_rows][columns], zeros beyond M.
template <class T>
LADDERSEG_INLINE void pack_transposed(const RealOf<T>* weight, int64_t outputs, int64_t channels, int64_t first_panel,
                                      int64_t last_panel, T* packed) {
  constexpr int64_t columns = RegisterBlock<T>::columns, lanes = Simd<T>::lanes;
  const int64_t depth = panel_rows<T>(channels);
  for (int64_t panel = first_panel; panel < last_panel; ++panel)
    for (int64_t j = 0; j < columns; j += lanes) {
      const int64_t first = smaller(panel * columns + j, outputs), rows = smaller(lanes, outputs - first);
      const RealOf<T>* const from = weight + first * channels;
      T* const to = packed + panel * depth * columns;
      if constexpr (kPair<T> == 1) {
        transpose_rows(from, channels, rows, channels, to + j, columns);
      } else {
        for (int64_t c = 0; c < depth; c += lanes) {
          RealOf<T> part[lanes * lanes] = {};
          transpose_rows(from + c, channels, rows, smaller(lanes, channels - c), part, lanes);
          for (int64_t k = 0; k < smaller(lanes, depth - c); k += 2)
            store_pairs(to + (c + k) * columns + 2 * j, load(part + k * lanes), load(part + (k + 1) * lanes));
        }
      }
    }
}

// Copies `pixels` rows of a finished panel, `count` elements of each.
template <class T>
LADDERSEG_INLINE void copy_products(const RealOf<T>* product, int64_t pixels, int64_t count, T* to, int64_t to_stride) {
  constexpr int64_t columns = RegisterBlock<T>::columns;
  for (int64_t p = 0; p < pixels; ++p)
    if (count == columns)
      copy_elements(product + p * columns, columns, to + p * to_stride);
    else
      copy_elements(product + p * columns, count, to + p * to_stride);
}

// Scratch of one member for the tiles of a projection of `channels` to `outputs` channels.
template <class T>
struct ProjectionTile {
  using Block = RegisterBlock<T>;
  using Real = RealOf<T>;
  int64_t channels, outputs;
  int64_t panels;         // of outputs
  Region<T> normalised;   // [parts of kDepth channels][kTilePixels, kNormalisedRow<T>]
  Region<Real> products;  // [panels][kTilePixels, columns], or of one panel if no sums wait for more input channels

  LADDERSEG_INLINE ProjectionTile(ScratchLayout& layout, int64_t channels, int64_t outputs)
      : channels(channels),
        outputs(outputs),
        panels(round_up<int64_t>(outputs, Block::columns) / Block::columns),
        normalised(layout.add<T>(round_up(smaller(channels, kNormalisedChannels), kDepth<T>) / kDepth<T> * kTilePixels *
                                 kNormalisedRow<T>)),
        products(layout.add<Real>((channels > kNormalisedChannels ? panels : 1) * kTilePixels * Block::columns)) {}

  // product[p, m] = sum_c packed(c, m) * relu((x - mean) * scale + shift) for `pixels` <= kTilePixels pixels from `x`.
  // Calls finish(m, count, product), with product [pixels, columns] in the first-level cache, for `count` outputs at a
  // time. The `next_pixels` of the next tile follow these in x; `output` is where the caller writes.
  template <class Finish>
  LADDERSEG_INLINE void run(char* base, const T* x, int64_t pixel_stride, int64_t pixels, int64_t next_pixels,
                            const Norm<Real>& norm, const T* packed, const T* output, int64_t output_stride,
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
      int64_t calls = 0;  // of a panel's products
      for (int64_t done = 0; done < width; done += kDepth<T>)
        calls += row_blocks * calls_meanwhile(panel_rows<T>(smaller(kDepth<T>, width - done)) / kPair<T>);
      RowRequests<T> input(next_x, pixel_stride, next_count, next_width, panels * calls);
      for (int64_t panel = 0; panel < panels; ++panel) {
        const int64_t m = panel * Block::columns, count = smaller<int64_t>(Block::columns, outputs - m);
        Ahead ahead{input, {output + m, output_stride, last ? pixels : 0, count, calls}};
        Real* const product =
            products.in(base) + (channels > kNormalisedChannels ? panel * kTilePixels * Block::columns : 0);
        for (int64_t done = 0; done < width; done += kDepth<T>) {
          const int64_t depth = smaller(kDepth<T>, width - done);
          const T* b = packed + (panel * panel_rows<T>(channels) + first + done) * Block::columns;
          for (int64_t i = 0; i < row_blocks; ++i) {
            const T* a = normalised.in(base) + (done / kDepth<T> * kTilePixels + i * Block::rows) * kNormalisedRow<T>;
            Real* c = product + i * Block::rows * Block::columns;
            if (first + done == 0)
              multiply_part<false>(depth, a, b, c, ahead);
            else
              multiply_part<true>(depth, a, b, c, ahead);
          }
        }
        if (last) finish(m, count, product);
      }
    }
  }

 private:
  // What is read next, and where results go.
  struct Ahead {
    RowRequests<T>& input;
    RowRequests<T> output;

    LADDERSEG_INLINE void operator()() {
      input();
      output();
    }
  };

  // A function of its own: the registers of its loop do not depend on what is inlined around it.
  template <bool accumulate>
  static __attribute__((noinline)) void multiply_part(int64_t depth, const T* normalised, const T* packed,
                                                      Real* product, Ahead& ahead) {
    multiply<accumulate>(depth, normalised, kNormalisedRow<T>, 1, packed, product, Block::columns, ahead);
  }

  LADDERSEG_INLINE void normalise(char* base, const T* x, int64_t pixel_stride, int64_t pixels, int64_t rows,
                                  const Norm<Real>& norm, int64_t first, int64_t width) const {
    for (int64_t done = 0; done < width; done += kDepth<T>) {
      const int64_t depth = smaller(kDepth<T>, width - done);
      T* const y = normalised.in(base) + done * kTilePixels / kDepth<T> * kNormalisedRow<T>;
      const Norm<Real> part{norm.mean + first + done, norm.scale + first + done, norm.shift + first + done};
      for (int64_t p = 0; p < pixels; ++p) {
        T* const to = y + p * kNormalisedRow<T>;
        bn_relu_pixel(depth, x + p * pixel_stride + done, part, to);
        for (int64_t c = depth; c < panel_rows<T>(depth); ++c) put(to[c], Real(0));
      }
      for (int64_t p = pixels; p < rows; ++p)
        std::memset(y + p * kNormalisedRow<T>, 0, panel_rows<T>(depth) * sizeof(T));
    }
  }
};

}  // namespace LADDERSEG_ISA
}  // namespace ladderseg
