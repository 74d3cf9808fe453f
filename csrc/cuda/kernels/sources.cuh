// Sources of the products of a 1x1 convolution: matrices of (row, column), a row's columns contiguous in memory, whose
// values may be computed from several maps while loading. Maps may have billions of pixels; a matrix has those of a
// tile or of a part, which ints number. Columns are channels.
//
// A thread keeps a Cursor, its addresses at some row and column, and moves it. `fetch` only reads, `values` computes:
// between them lies the arithmetic of the tile before, so that reading is hidden. The values are computed in pieces of
// a chunk, after the Vectors of the piece's channels have been loaded, which serve all rows: more of them at a time
// would fill the registers. What lies outside the matrix is read as zeros, and so are the vectors of channels that do
// not exist: the values of these are zero. Those of rows that do not exist are not.
#pragma once

#include "channel_norm.cuh"

namespace ladderseg::cuda {

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

// The pixels of a map from `first` on.
template <class T>
LADDERSEG_DEVICE FeatureMap<T> pixels_from(FeatureMap<T> map, int64 first) {
  if (map.data) map.data = map.pixel(first);
  return map;
}
LADDERSEG_DEVICE Gradient<Element, Real> pixels_from(Gradient<Element, Real> gradient, int64 first) {
  gradient.grad = pixels_from(gradient.grad, first);
  gradient.input = pixels_from(gradient.input, first);
  return gradient;
}

// Channels whose vectors are read in one access of 16 bytes.
constexpr int kVectorPiece = 16 / sizeof(Real);

LADDERSEG_DEVICE Pack<kVectorPiece> piece(const Pack<kWide>& chunk, int first) {
  Pack<kVectorPiece> piece;
#pragma unroll
  for (int i = 0; i < kVectorPiece; ++i) piece.values[i] = chunk.values[first + i];
  return piece;
}

// The piece of a vector at `column`; zero beyond the vector's end.
template <bool wide>
LADDERSEG_DEVICE Pack<kVectorPiece> load_piece_of_vector(const Real* vector, int column, int columns) {
  Pack<kVectorPiece> piece = {};
  if constexpr (wide) {
    if (column < columns) piece = load_vector<kVectorPiece, true>(vector + column);
  } else {
#pragma unroll
    for (int i = 0; i < kVectorPiece; ++i)
      if (column + i < columns) piece.values[i] = vector[column + i];
  }
  return piece;
}

// With `wide`, every row is a number of whole chunks, at addresses that are multiples of 16, and so are the vectors.

// A plain matrix: weights.
template <bool wide>
struct Matrix {
  const Element* data;
  int rows;
  int columns;

  static constexpr bool kPlain = true;
  using Cursor = const Element*;
  struct Raw {
    Chunk chunk;
  };
  struct Vectors {};

  LADDERSEG_DEVICE bool inside(int row, int column) const { return row < rows && column < columns; }
  LADDERSEG_DEVICE const Element* address(int row, int column) const {
    return data + static_cast<int64>(row) * columns + column;
  }
  LADDERSEG_DEVICE Raw fetch(int row, int column) const {
    Raw raw = {};
    if (inside(row, column)) raw.chunk = fetch_chunk<wide>(address(row, column), columns - column);
    return raw;
  }
  LADDERSEG_DEVICE Cursor cursor(int row, int column) const { return address(row, column); }
  LADDERSEG_DEVICE Cursor moved(Cursor at, int down, int across) const {
    return at + (static_cast<int64>(down) * columns + across);
  }
  // `count` elements, at least one.
  LADDERSEG_DEVICE Raw fetch(Cursor at, int count) const { return {fetch_chunk<wide>(at, count)}; }
  LADDERSEG_DEVICE Vectors vectors(int) const { return {}; }
  LADDERSEG_DEVICE Pack<kVectorPiece> values(const Raw& raw, const Vectors&, int first) const {
    return piece(unpack(raw.chunk), first);
  }
};

// y = relu((x - mean) * scale + shift); rows are pixels, columns are channels.
template <bool wide>
struct Rectified {
  FeatureMap<const Element> input;
  Norm<Real> norm;
  int rows;
  int columns;

  static constexpr bool kPlain = false;
  using Cursor = const Element*;
  struct Raw {
    Chunk chunk;
  };
  struct Vectors {
    Pack<kVectorPiece> mean, scale, shift;
  };

  LADDERSEG_DEVICE Cursor cursor(int row, int column) const { return input.pixel(row) + column; }
  LADDERSEG_DEVICE Cursor moved(Cursor at, int down, int across) const {
    return at + (down * input.pixel_stride + across);
  }
  LADDERSEG_DEVICE Raw fetch(Cursor at, int count) const { return {fetch_chunk<wide>(at, count)}; }
  LADDERSEG_DEVICE Vectors vectors(int column) const {
    return {load_piece_of_vector<wide>(norm.mean, column, columns),
            load_piece_of_vector<wide>(norm.scale, column, columns),
            load_piece_of_vector<wide>(norm.shift, column, columns)};
  }
  LADDERSEG_DEVICE Pack<kVectorPiece> values(const Raw& raw, const Vectors& of, int first) const {
    Pack<kVectorPiece> x = piece(unpack(raw.chunk), first);
#pragma unroll
    for (int i = 0; i < kVectorPiece; ++i)
      x.values[i] = rectified(normalised(x.values[i], of.mean.values[i], of.scale.values[i], of.shift.values[i]));
    return x;
  }
};

struct CorrectionVectors {
  Pack<kVectorPiece> mean, constant, slope;
};

// grad - constant - slope * (x - mean), or grad alone; rows are pixels, columns are channels.
template <bool wide>
struct Corrected {
  Gradient<Element, Real> gradient;
  int rows;
  int columns;

  static constexpr bool kPlain = false;
  struct Cursor {
    const Element* grad;
    const Element* input;
  };
  struct Raw {
    Chunk grad, input;
  };
  using Vectors = CorrectionVectors;

  LADDERSEG_DEVICE bool there() const { return gradient.input.data != nullptr; }  // a correction

  LADDERSEG_DEVICE Cursor cursor(int row, int column) const {
    return {gradient.grad.pixel(row) + column, gradient.input.pixel(row) + column};
  }
  LADDERSEG_DEVICE Cursor moved(Cursor at, int down, int across) const {
    return {at.grad + (down * gradient.grad.pixel_stride + across),
            at.input + (down * gradient.input.pixel_stride + across)};
  }
  LADDERSEG_DEVICE Raw fetch(Cursor at, int count) const {
    Raw raw;
    raw.grad = fetch_chunk<wide>(at.grad, count);
    if (there()) raw.input = fetch_chunk<wide>(at.input, count);
    return raw;
  }
  LADDERSEG_DEVICE Vectors vectors(int column) const {
    Vectors of = {};
    if (there())
      of = {load_piece_of_vector<wide>(gradient.mean, column, columns),
            load_piece_of_vector<wide>(gradient.constant, column, columns),
            load_piece_of_vector<wide>(gradient.slope, column, columns)};
    return of;
  }
  LADDERSEG_DEVICE Pack<kVectorPiece> values(const Raw& raw, const Vectors& of, int first) const {
    Pack<kVectorPiece> grad = piece(unpack(raw.grad), first);
    const Pack<kVectorPiece> x = piece(unpack(raw.input), first);
#pragma unroll
    for (int i = 0; i < kVectorPiece; ++i)
      if (there())
        grad.values[i] =
            grad.values[i] - of.constant.values[i] - of.slope.values[i] * (x.values[i] - of.mean.values[i]);
    return grad;
  }
};

}  // namespace ladderseg::cuda
