// The gradient of a 1x1 convolution's weight, tile by tile.
#pragma once

#include <cstring>

#include "conv1x1_tile.h"
#include "corrected_gradient.h"

namespace ladderseg {
namespace LADDERSEG_ISA {

// A tile of grad_output in one member's scratch, corrected, with zeros up to whole register blocks.
template <class T>
struct GradientTile {
  static constexpr bool paired = kPair<T> > 1;
  const int64_t outputs;
  const int64_t padded;   // outputs, rounded up to whole register block rows
  const int64_t row;      // elements from pixel to pixel
  const Region<T> pixel;  // [kTilePixels, row]
  const Region<T> pairs;  // [kTilePixels / 2, row, 2], only where products are of pairs of pixels (gemm.h)

  LADDERSEG_INLINE GradientTile(ScratchLayout& layout, int64_t outputs)
      : outputs(outputs),
        padded(round_up<int64_t>(outputs, RegisterBlock<T>::rows)),
        row(padded + kRowPadding),
        pixel(layout.add<T>(kTilePixels * row)),
        pairs(layout.add<T>(paired ? kTilePixels * row : 0)) {}

  LADDERSEG_INLINE T* in(char* base) const { return pixel.in(base); }

  LADDERSEG_INLINE void load(char* base, const Gradient<T>& gradient, int64_t first_pixel, int64_t pixels) const {
    const int64_t rows = round_up<int64_t>(pixels, RegisterBlock<T>::rows);
    for (int64_t p = 0; p < rows; ++p) {
      T* __restrict to = in(base) + p * row;
      const int64_t width = p < pixels ? outputs : 0;
      if (width) gradient_pixel(gradient, first_pixel + p, width, to);
      for (int64_t m = width; m < row; ++m) to[m] = T{};
    }
    if constexpr (paired)
      for (int64_t p = 0; p < rows; p += 2)
        pair_rows(in(base) + p * row, in(base) + (p + 1) * row, padded, pairs.in(base) + p * row);
  }
};

// One member's part of the gradient of a weight [outputs, channels], in blocks of one register block's columns.
template <class T>
struct WeightGradient {
  using Real = RealOf<T>;
  static constexpr int64_t columns = RegisterBlock<T>::columns;
  const int64_t channels;
  const int64_t blocks;     // of channels
  const int64_t padded;     // outputs, rounded up to whole register block rows
  const Region<Real> part;  // [blocks][padded][columns]

  LADDERSEG_INLINE WeightGradient(ScratchLayout& layout, int64_t outputs, int64_t channels)
      : channels(channels),
        blocks(round_up(channels, columns) / columns),
        padded(round_up<int64_t>(outputs, RegisterBlock<T>::rows)),
        part(layout.add<Real>(blocks * padded * columns)) {}

  LADDERSEG_INLINE void start(char* base) const {
    std::memset(part.in(base), 0, blocks * padded * columns * sizeof(Real));
  }

  // Adds the products of a tile's gradient with `block` of the convolution's inputs, y [pixels, columns], which are
  // paired here if products are of pairs. What is read next is requested: the sums, and `next_panel` [outputs, columns]
  // of a weight, if any.
  LADDERSEG_INLINE void add(char* base, int64_t block, const GradientTile<T>& gradient, T* y, int64_t pixels,
                            const T* next_panel = nullptr) const {
    constexpr int64_t rows = RegisterBlock<T>::rows;
    Real* const to = part.in(base) + block * padded * columns;
    if constexpr (GradientTile<T>::paired) {
      if (pixels % 2) std::memset(y + pixels * columns, 0, columns * sizeof(T));
      pair_panel(y, pixels);
    }
    for (int64_t m = 0; m < padded; m += rows) {
      prefetch(to + (m + rows) * columns, rows * columns);
      if (next_panel) prefetch(next_panel + m * columns, smaller(rows, gradient.outputs - m) * columns);
      if constexpr (GradientTile<T>::paired)
        multiply<true>(pixels, gradient.pairs.in(base) + 2 * m, 2, gradient.row, y, to + m * columns, columns);
      else
        multiply<true>(pixels, gradient.in(base) + m, 1, gradient.row, y, to + m * columns, columns);
    }
  }

  // Writes the sum of the members' parts, added in their order, for the outputs `mine`.
  template <class MemberBase>
  LADDERSEG_INLINE void finish(int team, const MemberBase& base_of, Range mine, Real* grad_weight) const {
    for (int64_t block = 0; block < blocks; ++block) {
      const int64_t first = block * columns, width = smaller(columns, channels - first);
      for (int64_t m = mine.begin; m < mine.end; ++m) {
        Real sum[columns] = {};
        for (int member = 0; member < team; ++member) {
          const Real* from = part.in(base_of(member)) + (block * padded + m) * columns;
          for (int64_t j = 0; j < columns; ++j) sum[j] += from[j];
        }
        std::memcpy(grad_weight + m * channels + first, sum, width * sizeof(Real));
      }
    }
  }
};

}  // namespace LADDERSEG_ISA
}  // namespace ladderseg
