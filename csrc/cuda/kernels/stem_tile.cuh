// Tiles of the stem's convolution: their place, the part of an image under them, and a thread's outputs.
#pragma once

#include "product.cuh"
#include "stem_convolution.h"

namespace ladderseg::cuda {

constexpr int kStemPixels = stem_thread_pixels(sizeof(Real));
constexpr int kStemColumns = stem_tile_columns(sizeof(Real));
constexpr int kStemPiece = 16 / sizeof(Real);  // numbers in 16 bytes of shared memory

// A tile's image, and its first row and column.
struct StemTile {
  int64 image;
  int row, column;

  LADDERSEG_DEVICE StemTile(const StemTiles& tiles, int64 number, int rows, int columns) {
    const int64 line = number / tiles.across;
    image = line / tiles.down;
    row = static_cast<int>(line - image * tiles.down) * rows;
    column = static_cast<int>(number - line * tiles.across) * columns;
  }
};

constexpr int whole_pieces(int count) { return (count + kStemPiece - 1) / kStemPiece * kStemPiece; }

// Columns of one parity under so many pixels side by side. Column v of the filter meets those of v's parity.
constexpr int kStemSpan = (kStemKernel - 1) / kStemStride;
constexpr int kStemWindow = whole_pieces(kStemPixels + kStemSpan);

// Passes `write` the numbers of a channel of an image under the tile that begins at (row, column) of the convolution,
// of which `rows` rows exist: those of `height` rows and of kStemStride times `width` columns, as many side by side as
// the stride, with their row and place in it. Zeros outside the image, and under rows that do not exist.
template <int threads, int height, int width, class Write>
LADDERSEG_DEVICE void read_image(const Images<Element>& images, int64 image, int64 channel, int64 row, int column,
                                 int rows, const Write& write) {
  constexpr int kDown = threads / width;  // rows at a time
  const int thread = threadIdx.x, first = thread / width, place = thread % width;
  if (first >= kDown) return;
  const int first_y = kStemStride * static_cast<int>(row) - kStemPadding;
  const int end_y = static_cast<int>(smaller(images.h, first_y + stem_window(rows)));
  const int x = kStemStride * (column + place) - kStemPadding;
  const Element* from = images.data + image * images.stride_n + channel * images.stride_c +
                        (first_y + first) * images.stride_h + x * images.stride_w;
  bool inside[kStemStride];
#pragma unroll
  for (int k = 0; k < kStemStride; ++k) inside[k] = x + k >= 0 && x + k < static_cast<int>(images.w);
#pragma unroll
  for (int times = 0; times < (height + kDown - 1) / kDown; ++times) {
    const int i = first + times * kDown, y = first_y + i;
    if (i >= height) break;
    const bool exists = y >= 0 && y < end_y;
    Element numbers[kStemStride];
#pragma unroll
    for (int k = 0; k < kStemStride; ++k) numbers[k] = exists && inside[k] ? from[k * images.stride_w] : Element{};
    write(i, place, numbers);
    from += kDown * images.stride_h;
  }
}

// The part of one channel of an image under a tile, even and odd columns apart; zeros outside the image.
template <int tile_rows>
struct ImageTile {
  static constexpr int kHeight = stem_window(tile_rows);
  static constexpr int kWidth = kStemColumns - kStemPixels + kStemWindow;  // of one parity

  alignas(16) Real values[kHeight][kStemStride][kWidth];

  // Loads what is under the tile that begins at (row, column) of the convolution, of which `rows` rows exist.
  template <int threads>
  LADDERSEG_DEVICE void load(const Images<Element>& images, int64 image, int64 channel, int64 row, int column,
                             int rows) {
    read_image<threads, kHeight, kWidth>(images, image, channel, row, column, rows,
                                         [&](int i, int place, const Element(&numbers)[kStemStride]) {
#pragma unroll
                                           for (int parity = 0; parity < kStemStride; ++parity)
                                             values[i][parity][place] = to_real(numbers[parity]);
                                         });
  }
};

// Reads whole pieces at an aligned address.
template <int count>
LADDERSEG_DEVICE void read_pieces(const Real* from, Real (&to)[count]) {
  static_assert(count % kStemPiece == 0, "whole pieces");
#pragma unroll
  for (int i = 0; i < count; i += kStemPiece) {
    const uint4 words = *reinterpret_cast<const uint4*>(from + i);
    const Pack<kStemPiece> pack = *reinterpret_cast<const Pack<kStemPiece>*>(&words);
#pragma unroll
    for (int k = 0; k < kStemPiece; ++k) to[i + k] = pack.values[k];
  }
}

// A thread's outputs are pieces of 16 bytes that lie all the groups' pieces apart: neighbouring threads then read
// neighbouring pieces. That of number j is output_column(j, group) of the block's.
LADDERSEG_DEVICE int output_column(int j, int group) {
  return j / kStemPiece * (kStemGroups * kStemPiece) + group * kStemPiece + j % kStemPiece;
}

// Reads a thread's outputs from a row of the block's.
LADDERSEG_DEVICE void read_outputs(const Real* row, int group, Real (&to)[kStemThreadOutputs]) {
#pragma unroll
  for (int j = 0; j < kStemThreadOutputs; j += kStemPiece) {
    Real piece[kStemPiece];
    read_pieces(row + output_column(j, group), piece);
#pragma unroll
    for (int k = 0; k < kStemPiece; ++k) to[j + k] = piece[k];
  }
}

}  // namespace ladderseg::cuda
