// Sources of the products of a 1x1 convolution: matrices of (row, column), a row's columns contiguous in memory, whose
// values may be computed from several maps while loading.
//
// `fetch` only reads, `values` computes: between them lies the arithmetic of the tile before, so that reading is
// hidden. Values outside the matrix are zero. There may be billions of rows (pixels); columns are channels.
#pragma once

#include "element.cuh"

namespace ladderseg::cuda {

// 16 bytes of a row, as they lie in memory.
union Chunk {
  uint4 words;
  Element elements[kWide];
};

LADDERSEG_DEVICE Pack<kWide> unpack(const Chunk& chunk) {
  Pack<kWide> pack;
#pragma unroll
  for (int i = 0; i < kWide; ++i) pack.values[i] = to_real(chunk.elements[i]);
  return pack;
}

// Loads `count` elements, at least one; with `wide`, all of them, at an address that is a multiple of 16.
template <bool wide>
LADDERSEG_DEVICE Chunk fetch_chunk(const Element* from, int count) {
  Chunk chunk;
  if constexpr (wide) {
    chunk.words = *reinterpret_cast<const uint4*>(from);
  } else {
#pragma unroll
    for (int i = 0; i < kWide; ++i) chunk.elements[i] = i < count ? from[i] : Element{};
  }
  return chunk;
}

// With `wide`, every row is a number of whole chunks, at addresses that are multiples of 16.

// A plain matrix: weights.
template <bool wide>
struct Matrix {
  const Element* data;
  int64 rows;
  int columns;

  static constexpr bool kPlain = true;
  struct Raw {
    Chunk chunk;
  };

  LADDERSEG_DEVICE bool inside(int64 row, int column) const { return row < rows && column < columns; }
  LADDERSEG_DEVICE const Element* address(int64 row, int column) const { return data + row * columns + column; }

  LADDERSEG_DEVICE Raw fetch(int64 row, int column) const {
    Raw raw = {};
    if (inside(row, column)) raw.chunk = fetch_chunk<wide>(address(row, column), columns - column);
    return raw;
  }
  LADDERSEG_DEVICE Pack<kWide> values(const Raw& raw, int64, int) const { return unpack(raw.chunk); }
};

// y = relu((x - mean) * scale + shift); rows are pixels, columns are channels.
template <bool wide>
struct Rectified {
  FeatureMap<const Element> input;
  Norm<Real> norm;
  int64 rows;
  int channels;

  static constexpr bool kPlain = false;
  struct Raw {
    Chunk chunk;
  };

  LADDERSEG_DEVICE bool inside(int64 row, int column) const { return row < rows && column < channels; }

  LADDERSEG_DEVICE Raw fetch(int64 row, int column) const {
    Raw raw = {};
    if (inside(row, column)) raw.chunk = fetch_chunk<wide>(input.pixel(row) + column, channels - column);
    return raw;
  }
  LADDERSEG_DEVICE Pack<kWide> values(const Raw& raw, int64 row, int column) const {
    Pack<kWide> pack = unpack(raw.chunk);
#pragma unroll
    for (int i = 0; i < kWide; ++i) {
      Real y = Real(0);
      if (inside(row, column + i)) {
        const int c = column + i;
        y = rectified(normalised(pack.values[i], norm.mean[c], norm.scale[c], norm.shift[c]));
      }
      pack.values[i] = y;
    }
    return pack;
  }
};

// grad - constant - slope * (x - mean), or grad alone; rows are pixels, columns are channels.
template <bool wide>
struct Corrected {
  Gradient<Element, Real> gradient;
  int64 rows;
  int channels;

  static constexpr bool kPlain = false;
  struct Raw {
    Chunk grad, input;
  };

  LADDERSEG_DEVICE bool inside(int64 row, int column) const { return row < rows && column < channels; }

  LADDERSEG_DEVICE Raw fetch(int64 row, int column) const {
    Raw raw = {};
    if (!inside(row, column)) return raw;
    const int count = channels - column;
    raw.grad = fetch_chunk<wide>(gradient.grad.pixel(row) + column, count);
    if (gradient.input.data) raw.input = fetch_chunk<wide>(gradient.input.pixel(row) + column, count);
    return raw;
  }
  LADDERSEG_DEVICE Pack<kWide> values(const Raw& raw, int64 row, int column) const {
    Pack<kWide> pack = unpack(raw.grad);
    if (!gradient.input.data) return pack;
    const Pack<kWide> x = unpack(raw.input);
#pragma unroll
    for (int i = 0; i < kWide; ++i) {
      const int c = column + i;
      if (inside(row, wide ? column : c))
        pack.values[i] = pack.values[i] - gradient.constant[c] - gradient.slope[c] * (x.values[i] - gradient.mean[c]);
    }
    return pack;
  }
};

}  // namespace ladderseg::cuda
