// Rows of the stem's convolution, computed one after the other when needed, and kept for a few more rows.
#pragma once

#include "gemm.h"
#include "ladderseg/stem.h"
#include "parallel.h"
#include "scratch.h"

namespace ladderseg {
namespace LADDERSEG_ISA {

constexpr int64_t kStemKernel = 7;
constexpr int64_t kStemPadding = 3;
// Columns of the pooled map in a chunk; the convolution has twice as many and a halo.
constexpr int64_t kPooledColumns = 64;
constexpr int64_t kConvColumns = 2 * kPooledColumns + 3;
// Rows kept: the convolution's under two rows of windows, and the image's under all of these.
constexpr int64_t kKeptRows = 4;
constexpr int64_t kImageRows = 16;

// The convolution's output for a chunk of columns, kKeptRows rows of it at a time.
//
// Image rows lie in a ring, where the product reads them in place, by a table of the taps' offsets. Even and odd
// columns lie apart, so that for one tap of the filter the values of successive output columns are contiguous. For
// products of pairs columns keep their order. The last tap of a filter's row is paired with a zero, in the image too,
// where the next pixel might be infinite: a second copy of the row has zeros in every other place.
template <class T>
struct StemRows {
  using Real = RealOf<T>;
  using Block = RegisterBlock<T>;
  static constexpr bool paired = kPair<T> > 1;
  static constexpr int64_t kRowTaps = (kStemKernel + kPair<T> - 1) / kPair<T> * kPair<T>;
  // Elements of the ring from output column to output column.
  static constexpr int64_t kStep = paired ? 2 : 1;
  static constexpr int64_t kPlanes = paired ? 4 : 2;

  const Images<T>& images;
  const int64_t outputs, taps;    // taps = C * 49, in the order row, channel, column of the filter
  const int64_t depth, steps;     // of the product: taps with those of zeros, and instructions
  const int64_t height, width;    // H', W'
  const int64_t panels, row;      // row: elements from column to column of the output
  const int64_t columns;          // computed, whole register blocks
  const int64_t plane;            // even or odd columns of one channel of an image row
  const Region<T> packed;         // [panels][depth][Block::columns], shared
  const Region<int64_t> offsets;  // [kImageRows][steps], shared: of the taps, by 2 * r modulo kImageRows
  const Region<T> ring;           // [kImageRows][C][kPlanes * plane]
  const Region<Real> rows;        // [kKeptRows][columns][row]

  StemRows(ScratchLayout& shared, ScratchLayout& own, const Images<T>& images, int64_t outputs)
      : images(images),
        outputs(outputs),
        taps(images.c * kStemKernel * kStemKernel),
        depth(images.c * kStemKernel * kRowTaps),
        steps(depth / kPair<T>),
        height((images.h - 1) / 2 + 1),
        width((images.w - 1) / 2 + 1),
        panels(round_up<int64_t>(outputs, Block::columns) / Block::columns),
        row(panels * Block::columns),
        columns(round_up<int64_t>(kConvColumns, Block::rows)),
        plane(round_up<int64_t>(columns + 4, 16)),
        packed(shared.add<T>(panels * Block::columns * depth)),
        offsets(shared.add<int64_t>(kImageRows * steps)),
        ring(own.add<T>(kImageRows * images.c * kPlanes * plane)),
        rows(own.add<Real>(kKeptRows * columns * row)) {}

  // Called before the team starts.
  void prepare(char* scratch, const Real* weight) const {
    for (int64_t u = 0; u < kStemKernel; ++u)
      for (int64_t c = 0; c < images.c; ++c)
        for (int64_t v = 0; v < kRowTaps; ++v) {
          const int64_t tap = (u * images.c + c) * kRowTaps + v, step = tap / kPair<T>, part = tap % kPair<T>;
          for (int64_t k = 0; k < row; ++k) {
            const int64_t panel = k / Block::columns, column = k % Block::columns;
            put(packed.in(scratch)[((panel * steps + step) * Block::columns + column) * kPair<T> + part],
                k < outputs && v < kStemKernel ? weight[((k * images.c + c) * kStemKernel + u) * kStemKernel + v]
                                               : Real(0));
          }
          for (int64_t first = 0; first < kImageRows && part == 0; ++first)
            offsets.in(scratch)[first * steps + step] =
                (first + u) % kImageRows * images.c * kPlanes * plane + in_row(c, v);
        }
  }

  // Where a row of the ring has what tap v reads of channel c for the chunk's first column. Column x of the output
  // reads columns 2x + v - 3 of the image: odd ones for even v.
  LADDERSEG_INLINE int64_t in_row(int64_t c, int64_t v) const {
    if (!paired) return (c * kPlanes + (v + 1) % 2) * plane + v / 2;
    return c * kPlanes * plane + (v == kStemKernel - 1 ? 2 * plane : 0) + v;
  }

  // The offsets of the taps for output row r: image row 2r - 3 + u is in the ring at (2r + u) modulo kImageRows.
  LADDERSEG_INLINE const int64_t* offsets_of(char* scratch, int64_t r) const {
    return offsets.in(scratch) + 2 * r % kImageRows * steps;
  }

  // What one tap reads for the chunk's first column of output row r; for the next columns, kStep elements on each.
  LADDERSEG_INLINE const T* read_by(char* base, int64_t r, int64_t tap) const {
    const int64_t v = tap % kStemKernel, c = tap / kStemKernel % images.c, u = tap / kStemKernel / images.c;
    return ring.in(base) + (2 * r + u) % kImageRows * images.c * kPlanes * plane + in_row(c, v);
  }

  // A kept row; column x of the chunk that begins at column `first` is at (x - first) * row.
  LADDERSEG_INLINE Real* kept(char* base, int64_t r) const { return rows.in(base) + r % kKeptRows * columns * row; }

  // Computes output row r >= 0 of an image, columns [first, first + columns), including columns outside. `image_row` is
  // the first image row not yet in the ring; it begins at 2r - 3 for the first row and is carried on.
  void make(char* scratch, char* base, int64_t image, int64_t r, int64_t first, int64_t& image_row) const {
    for (; image_row <= 2 * r + kStemPadding; ++image_row) pack_row(base, image, image_row, first);
    const int64_t* offset = offsets_of(scratch, r);
    Real* to = kept(base, r);
    for (int64_t panel = 0; panel < panels; ++panel)
      for (int64_t x = 0; x < columns; x += Block::rows) {
        const T* a = ring.in(base) + kStep * x;
        const T* const b = packed.in(scratch) + panel * depth * Block::columns;
        Real* const c = to + x * row + panel * Block::columns;
        if constexpr (paired)
          multiply_pairs<false, Block::rows>(
              steps, [=](int64_t i, int64_t k) __attribute__((always_inline)) { return a + offset[k] + kStep * i; }, b,
              c, row);
        else
          multiply_elements<false, Block::rows>(
              steps, [=](int64_t i, int64_t k) __attribute__((always_inline)) { return a[offset[k] + i]; }, b, c, row);
      }
  }

  // Packs image row y, zero outside, into the ring: columns from 2 * first - 3 on, or even columns from 2 * first - 2
  // on and odd ones from 2 * first - 3 on.
  void pack_row(char* base, int64_t image, int64_t y, int64_t first) const {
    T* to = ring.in(base) + (y + kStemPadding) % kImageRows * images.c * kPlanes * plane;
    const bool inside = y >= 0 && y < images.h;
    for (int64_t c = 0; c < images.c; ++c, to += kPlanes * plane) {
      const T* from = images.data + image * images.stride_n + c * images.stride_c + (inside ? y : 0) * images.stride_h;
      for (int64_t odd = 0; odd < kPhases; ++odd) {
        const int64_t start = paired ? 2 * first - kStemPadding : 2 * first - 2 - odd;
        for (int64_t j = 0; j < 2 * plane / kPhases; ++j) {
          const int64_t x = start + kPhases * j;
          to[odd * plane + j] = inside && x >= 0 && x < images.w ? from[x * images.stride_w] : T{};
        }
      }
      for (int64_t j = 0; paired && j < plane; ++j) {
        to[2 * plane + 2 * j] = to[2 * j];
        to[2 * plane + 2 * j + 1] = T{};
      }
    }
  }

 private:
  static constexpr int64_t kPhases = paired ? 1 : 2;
};

// Calls body(image, first row, last row, first column, last column) on chunks of rows `mine` of all pooled images.
template <class Body>
LADDERSEG_INLINE void for_each_pooled_chunk(Range mine, int64_t height, int64_t width, const Body& body) {
  for (int64_t begin = mine.begin; begin < mine.end;) {
    const int64_t image = begin / height, first = begin % height;
    const int64_t last = smaller(height, first + mine.end - begin);
    for (int64_t column = 0; column < width; column += kPooledColumns)
      body(image, first, last, column, smaller(width, column + kPooledColumns));
    begin += last - first;
  }
}

// The window of 3x3 around pixel (2q, 2s), cut at the edges of a height x width map.
struct PoolingWindow {
  int64_t first_row, last_row, first_column, last_column;

  PoolingWindow(int64_t q, int64_t s, int64_t height, int64_t width)
      : first_row(q ? 2 * q - 1 : 0),
        last_row(smaller(2 * q + 1, height - 1)),
        first_column(s ? 2 * s - 1 : 0),
        last_column(smaller(2 * s + 1, width - 1)) {}
};

// The x of a window with the largest y: the largest x if `direction` > 0, the smallest if it is < 0, the first if it is
// 0; NaN if there is one. V channels from c on.
template <class V, class T>
LADDERSEG_INLINE V window_extreme(const StemRows<T>& conv, char* base, const PoolingWindow& window, int64_t first,
                                  int64_t c, V direction) {
  V best = load_as<V>(conv.kept(base, window.first_row) + (window.first_column - first) * conv.row + c);
  for (int64_t r = window.first_row; r <= window.last_row; ++r) {
    const RealOf<T>* values = conv.kept(base, r) + c;
    for (int64_t x = window.first_column; x <= window.last_column; ++x) {
      const V value = load_as<V>(values + (x - first) * conv.row);
      best = ((direction * value > direction * best) | (value != value)) ? value : best;
    }
  }
  return best;
}

}  // namespace LADDERSEG_ISA
}  // namespace ladderseg
