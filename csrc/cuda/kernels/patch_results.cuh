// What is done with a tile whose rows are the pixels of a patch, row after row, and whose columns are channels: it
// becomes the part of a map, with its statistics, or of a gradient before batch norm and relu, with the sums for the
// batch norm's backward.
//
// A Tile is described in product_simt.cuh and product_tensor.cuh; here it needs kThreadRows, kThreadColumns,
// kColumnPiece, row(i), column(j), sums[i][j], and what ColumnSums uses. Parts, of statistics or sums, are patches. All
// threads of the block call these functions together. The memory must not be in use when they are called.
#pragma once

#include "patches.cuh"
#include "tile_results.cuh"

namespace ladderseg::cuda {

// The position in the patch of row i of this thread's tile.
template <class Tile, class Patch>
struct PatchPixel {
  int i, j;

  LADDERSEG_DEVICE static PatchPixel of(int row) {
    const int pixel = Tile::row(row);
    return {pixel / Patch::kWidth, pixel % Patch::kWidth};
  }
};

// Stores the tile's result in args.output, or with args.accumulate its sum with the output. The tile becomes what is
// stored, rounded as it is stored. args.wide_output: whether pixels of output are whole chunks of 16 bytes.
template <class Tile, class Patch, class Arguments>
LADDERSEG_DEVICE void store_patch(const Arguments& args, Tile& tile, const Patch& patch, int column) {
  constexpr int kPiece = Tile::kColumnPiece;
  const int columns = static_cast<int>(args.output.c);
#pragma unroll
  for (int i = 0; i < Tile::kThreadRows; ++i) {
    const auto at = PatchPixel<Tile, Patch>::of(i);
    const bool there = patch.inside(at.i, at.j);
    Element* const to = args.output.pixel(patch.pixel(at.i, at.j));
#pragma unroll
    for (int j = 0; j < Tile::kThreadColumns; j += kPiece) {
      const int k = column + Tile::column(j);
      const bool inside = there && k < columns;
      Real piece[kPiece] = {};
      if (args.accumulate && inside) load_piece(to + k, columns - k, args.wide_output != 0, piece);
#pragma unroll
      for (int l = 0; l < kPiece; ++l) tile.sums[i][j + l] = piece[l] = rounded(piece[l] + tile.sums[i][j + l]);
      if (inside) store_piece(to + k, columns - k, args.wide_output != 0, piece);
    }
  }
}

// The statistics of the tile: part `part` of args.partial_statistics, if they are wanted, and of args.counts, the
// numbers of pixels.
template <class Tile, class Patch, class Arguments>
LADDERSEG_DEVICE void write_patch_statistics(const Arguments& args, const Tile& tile, const Patch& patch, int64 part,
                                             int column, TileStatisticsMemory<Tile>& memory) {
  if (!args.partial_statistics) return;
  const int count = patch.pixels();
  if (threadIdx.x == 0 && column == 0) args.counts[part] = count;
  const auto there = [&](int i) {
    const auto at = PatchPixel<Tile, Patch>::of(i);
    return patch.inside(at.i, at.j);
  };
  write_tile_statistics(tile, count, there, args.partial_statistics + 2 * args.output.c * part, args.output.c, column,
                        memory);
}

// Neighbouring channels of a pixel as they lie in memory. `count` of them exist; with `wide`, all do.
template <int piece>
struct alignas(piece * sizeof(Element) < 16 ? piece * sizeof(Element) : 16) ElementPiece {
  Element elements[piece];

  LADDERSEG_DEVICE void load(const Element* from, int count, bool wide) {
    if (wide && count >= piece) {
      *this = *reinterpret_cast<const ElementPiece*>(from);
    } else {
#pragma unroll
      for (int i = 0; i < piece; ++i) elements[i] = i < count ? from[i] : Element{};
    }
  }
};

// The norm of the channels from c on, of which `left` exist; with `whole`, all do or none, and the vectors are aligned.
template <bool whole, int piece>
LADDERSEG_DEVICE ChannelNorm<piece> piece_norm(const Norm<Real>& norm, int c, int left) {
  if constexpr (whole) return left > 0 ? ChannelNorm<piece>::aligned(norm, c) : ChannelNorm<piece>();
  return ChannelNorm<piece>(norm, c, left);
}

// The tile is the gradient of y, from channel `column` on. Masked it is summed up, as part `part` of args.partial_sums,
// and scaled it becomes args.grad_input. args.wide_input: whether pixels of input and grad_input are whole chunks of 16
// bytes; with `whole`, they are, as are the tile's pieces and the vectors' chunks.
template <bool whole, class Tile, class Patch, class Arguments>
LADDERSEG_DEVICE void write_patch_gradient(const Arguments& args, const Tile& tile, const Patch& patch, int64 part,
                                           int column, TileGradientMemory<Tile>& memory) {
  constexpr int kPiece = Tile::kColumnPiece;
  const int columns = static_cast<int>(args.input.c);
  const bool wide = whole || args.wide_input != 0;
  Real masked_sums[Tile::kThreadColumns], centred_sums[Tile::kThreadColumns];
#pragma unroll
  for (int j = 0; j < Tile::kThreadColumns; j += kPiece) {
    const int c = column + Tile::column(j), left = columns - c;
    const int count = whole ? kPiece : left;
    const ChannelNorm<kPiece> norm = piece_norm<whole, kPiece>(args.norm, c, left);
    ChannelSums<kPiece> sums;
    // With `whole`, all rows are read before the first is stored: the compiler cannot tell that these are different
    // maps.
    constexpr int kTogether = whole ? Tile::kThreadRows : 1;
#pragma unroll
    for (int first = 0; first < Tile::kThreadRows; first += kTogether) {
      ElementPiece<kPiece> x[kTogether];
#pragma unroll
      for (int i = 0; i < kTogether; ++i) {
        const auto at = PatchPixel<Tile, Patch>::of(first + i);
        if (!patch.inside(at.i, at.j) || left <= 0) continue;
        const int64 input_pixel = patch.pixel_of(args.input.h, args.input_first_row, at.i, at.j);
        x[i].load(args.input.pixel(input_pixel) + c, count, wide);
      }
#pragma unroll
      for (int i = 0; i < kTogether; ++i) {
        const auto at = PatchPixel<Tile, Patch>::of(first + i);
        if (!patch.inside(at.i, at.j) || left <= 0) continue;
        Real result[kPiece];
#pragma unroll
        for (int k = 0; k < kPiece; ++k)
          result[k] = sums.add(norm, k, to_real(x[i].elements[k]), tile.sums[first + i][j + k]);
        store_piece(args.grad_input.pixel(patch.pixel(at.i, at.j)) + c, count, wide, result);
      }
    }
#pragma unroll
    for (int k = 0; k < kPiece; ++k) {
      masked_sums[j + k] = sums.masked[k];
      centred_sums[j + k] = sums.centred[k];
    }
  }
  write_tile_sums<Tile>(args, masked_sums, centred_sums, part, column, memory);
}

}  // namespace ladderseg::cuda
