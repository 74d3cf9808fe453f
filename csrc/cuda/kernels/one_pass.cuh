// The common parts of the two variants of bn_relu_conv1x1_backward.cu: how the gradient is read, and how a product is
// processed on its way to memory.
#pragma once

#include "bn_relu_conv1x1.h"
#include "channel_norm.cuh"
#include "one_pass.h"
#include "product.h"
#include "sources.cuh"
#include "threads.cuh"

namespace ladderseg::cuda {

using BackwardArguments = BnReluConv1x1BackwardArguments<Element, Real>;

// The part of the work that a block does.
struct Share {
  int64 part;
  int column;  // the first of its channels
  // Its pixels, of all maps.
  int pixels;
  Gradient<Element, Real> grad_output;
  FeatureMap<const Element> input;
  FeatureMap<Element> grad_input;

  // Blocks of one part follow each other, so that the gradient, which all of them read, is loaded from memory once.
  LADDERSEG_DEVICE static Share of(const BackwardArguments& args, int columns) {
    Share share;
    share.part = blockIdx.x / args.column_tiles;
    share.column = static_cast<int>(blockIdx.x % args.column_tiles) * columns;
    const int64 begin = share.part * args.pixels_per_part;
    share.pixels = static_cast<int>(smaller(args.pixels_per_part, args.input.pixels() - begin));
    share.grad_output = pixels_from(args.grad_output, begin);
    share.input = pixels_from(args.input, begin);
    share.grad_input = args.grad_input;
    if (args.grad_input.data) share.grad_input = pixels_from(args.grad_input, begin);
    return share;
  }
};

// The vectors of the gradient's correction, if it has one, and of the norm of a block's columns. In shared memory they
// are read with fewer instructions than where they lie, at any alignment; zeros for channels that do not exist.
template <int columns>
struct BlockVectors {
  alignas(16) Real correction[3][kOnePassGradients];  // mean, constant, slope
  alignas(16) Real norm[3][columns];                  // mean, scale, shift

  // The block must be synchronised before they are read.
  LADDERSEG_DEVICE void bring(const BackwardArguments& args, int first_column) {
    const Gradient<Element, Real>& gradient = args.grad_output;
    const Real* const corrections[] = {gradient.mean, gradient.constant, gradient.slope};
    const Real* const norms[] = {args.norm.mean, args.norm.scale, args.norm.shift};
    const int thread = product_thread();
#pragma unroll
    for (int i = 0; i < 3; ++i) {
      if (gradient.input.data && thread < kOnePassGradients)
        correction[i][place(thread)] = thread < gradient.grad.c ? corrections[i][thread] : Real(0);
      if (thread < columns)
        norm[i][thread] = first_column + thread < args.input.c ? norms[i][first_column + thread] : Real(0);
    }
  }

  template <int piece>
  LADDERSEG_DEVICE ChannelNorm<piece> norm_of(int column) const {
    return ChannelNorm<piece>::aligned({norm[0], norm[1], norm[2]}, column);
  }
  LADDERSEG_DEVICE CorrectionVectors correction_of(int channel) const {
    return {load_vector<kVectorPiece, true>(&correction[0][place(channel)]),
            load_vector<kVectorPiece, true>(&correction[1][place(channel)]),
            load_vector<kVectorPiece, true>(&correction[2][place(channel)])};
  }

  // Where a channel's correction lies: the first pieces of all chunks, then the second ones. So neighbouring threads,
  // with a chunk each, read neighbouring pieces.
  LADDERSEG_DEVICE static int place(int channel) {
    constexpr int kPieces = kOnePassGradients / kWide * kVectorPiece;
    return channel % kWide / kVectorPiece * kPieces + channel / kWide * kVectorPiece + channel % kVectorPiece;
  }
};

// A thread's chunks of the gradient, kDown pixels apart and all in the same channels, on their way to shared memory.
template <bool wide>
struct GradientChunks {
  static constexpr int kAcross = kOnePassGradients / kWide;  // threads to a pixel
  static constexpr int kDown = kProductThreads / kAcross;    // pixels that a chunk per thread makes

  using Source = Corrected<wide>;
  using Raw = typename Source::Raw;
  const Source source;
  int row, column;  // of the next chunk
  typename Source::Cursor cursor;

  LADDERSEG_DEVICE GradientChunks(const Source& source)
      : source(source), row(product_thread() / kAcross), column(first_column()), cursor(source.cursor(row, column)) {
    keep(row);
  }

  LADDERSEG_DEVICE static int first_row() { return product_thread() / kAcross; }
  LADDERSEG_DEVICE static int first_column() { return product_thread() % kAcross * kWide; }

  // Reads the next chunks.
  template <int count>
  LADDERSEG_DEVICE void fetch(Raw (&raw)[count]) const {
#pragma unroll
    for (int i = 0; i < count; ++i)
      raw[i] = inside(i) ? source.fetch(source.moved(cursor, i * kDown, 0), source.columns - column) : Raw();
  }

  // Passes `write` the number and the values of each chunk that has been read, as `Tile` stores them, and whether its
  // pixel exists, for zeros otherwise; and moves on.
  template <class Tile, int count, class Vectors, class Write>
  LADDERSEG_DEVICE void put(const Raw (&raw)[count], const Vectors& vectors, const Write& write) {
    typename Tile::Stored values[count];
#pragma unroll
    for (int k = 0; k < kWide; k += kVectorPiece) {
      CorrectionVectors of = {};
      if (source.there()) of = vectors.correction_of(column + k);
#pragma unroll
      for (int i = 0; i < count; ++i) Tile::set(values[i], k, source.values(raw[i], of, k));
    }
#pragma unroll
    for (int i = 0; i < count; ++i) write(i, values[i], has_row(i));
    row += count * kDown;
    cursor = source.moved(cursor, count * kDown, 0);
  }

 private:
  LADDERSEG_DEVICE bool has_row(int i) const { return row + i * kDown < source.rows; }
  LADDERSEG_DEVICE bool inside(int i) const { return has_row(i) && column < source.columns; }
};

// Adds scale * masked g of one pixel to `result`, and computes y.
template <int piece>
LADDERSEG_DEVICE void pass(const ChannelNorm<piece>& norm, const Real (&x)[piece], const Real (&g)[piece],
                           Real (&result)[piece], Real (&y)[piece], ChannelSums<piece>& sums) {
#pragma unroll
  for (int k = 0; k < piece; ++k) {
    result[k] += sums.add(norm, k, x[k], g[k]);
    y[k] = rectified(norm(x[k], k));
  }
}

// The sums of a block, of `groups` groups of threads.
template <int groups, int columns>
struct BlockSums {
  Real masked[groups][columns], centred[groups][columns];

  LADDERSEG_DEVICE void write(const BackwardArguments& args, const Share& share) const {
    const int thread = product_thread(), channels = static_cast<int>(args.input.c);
    if (thread >= columns || share.column + thread >= channels) return;
    Real masked_sum = masked[0][thread], centred_sum = centred[0][thread];
#pragma unroll
    for (int i = 1; i < groups; ++i) {
      masked_sum += masked[i][thread];
      centred_sum += centred[i][thread];
    }
    Real* const partial = args.partial_sums + share.part * 2 * channels + share.column + thread;
    partial[0] = masked_sum;
    partial[channels] = centred_sum;
  }
};

// Sums over the lanes of a warp whose numbers differ in the bits from `first` on.
template <int first>
LADDERSEG_DEVICE Real sum_over_lanes(Real value) {
#pragma unroll
  for (int bit = first; bit < 32; bit *= 2) value += __shfl_xor_sync(0xffffffffu, value, bit);
  return value;
}

}  // namespace ladderseg::cuda
