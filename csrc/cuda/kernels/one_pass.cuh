// The common parts of the two variants of bn_relu_conv1x1_backward.cu: how the gradient is read, and how a product is
// processed on its way to memory.
#pragma once

#include "bn_relu_conv1x1.h"
#include "channel_norm.cuh"
#include "one_pass.h"
#include "product.h"
#include "sources.cuh"

namespace ladderseg::cuda {

using BackwardArguments = BnReluConv1x1BackwardArguments<Element, Real>;

// threadIdx.x, which the compiler cannot tell to be constant: so it recomputes addresses for every tile instead of
// keeping them, which would fill the registers.
LADDERSEG_DEVICE int thread_again() {
  int thread;
  asm volatile("mov.u32 %0, %%tid.x;" : "=r"(thread));
  return thread;
}

// The part of the work that a block does.
struct Share {
  int64 part, begin, end;  // pixels
  int column;              // the first of its channels

  // Blocks of one part follow each other, so that the gradient, which all of them read, is loaded from memory once.
  LADDERSEG_DEVICE static Share of(const BackwardArguments& args, int columns) {
    Share share;
    share.part = blockIdx.x / args.column_tiles;
    share.column = static_cast<int>(blockIdx.x % args.column_tiles) * columns;
    share.begin = share.part * args.pixels_per_part;
    share.end = smaller(share.begin + args.pixels_per_part, args.input.pixels());
    return share;
  }
};

// A thread's chunks of tiles of the gradient, all in the same channels; zeros outside.
template <bool wide>
struct GradientChunks {
  static constexpr int kAcross = kOnePassGradients / kWide;  // threads to a pixel
  static constexpr int kDown = kProductThreads / kAcross;    // pixels that a chunk per thread makes

  using Source = Corrected<wide>;
  using Raw = typename Source::Raw;
  Source source;
  int thread;

  LADDERSEG_DEVICE int column() const { return thread % kAcross * kWide; }
  LADDERSEG_DEVICE int row(int i) const { return thread / kAcross + i * kDown; }

  // Chunks first.. of the tile that begins with `pixel`: `fetch` only reads, `put` writes what is used to `shared`.
  template <int count>
  LADDERSEG_DEVICE void fetch(int64 pixel, int first, Raw (&raw)[count]) const {
#pragma unroll
    for (int i = 0; i < count; ++i) raw[i] = source.fetch(pixel + row(first + i), column());
  }

  template <int count, class Shared>
  LADDERSEG_DEVICE void put(int64 pixel, int first, const Raw (&raw)[count], Shared& shared) const {
    const Gradient<Element, Real>& gradient = source.gradient;
    Pack<kWide> mean = {}, constant = {}, slope = {};
    if (gradient.input.data) {
#pragma unroll
      for (int k = 0; k < kWide; ++k) {
        const int m = column() + k;
        if (wide ? column() >= source.channels : m >= source.channels) continue;
        mean.values[k] = gradient.mean[m];
        constant.values[k] = gradient.constant[m];
        slope.values[k] = gradient.slope[m];
      }
    }
#pragma unroll
    for (int i = 0; i < count; ++i) {
      Pack<kWide> pack = unpack(raw[i].grad);
      if (gradient.input.data && pixel + row(first + i) < source.rows) {
        const Pack<kWide> x = unpack(raw[i].input);
#pragma unroll
        for (int k = 0; k < kWide; ++k)
          pack.values[k] = pack.values[k] - constant.values[k] - slope.values[k] * (x.values[k] - mean.values[k]);
      }
      shared.put(row(first + i), column(), pack);
    }
  }
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
    const int thread = threadIdx.x, channels = static_cast<int>(args.input.c);
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
