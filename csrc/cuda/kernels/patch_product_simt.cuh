// The products of a 3x3 convolution over a patch, on the ordinary arithmetic units: for every architecture and type.
//
//   result[p, j] = sum over taps and channels c of source[p moved by the tap, c] * weight[tap, c, j]
//
// Channels come in slices. Shared memory has a slice of the patch with its frame, as Reals, [channel][row][column], and
// of the weight, [channel][tap][j]. A thread computes 8 neighbouring pixels of a row x 4 columns of the result: the 10
// pixels of a row that its taps touch, and 3 x 4 weights, serve 96 products. Threads side by side in a warp have the
// same pixels and all columns, so what a warp reads are broadcasts of a few words.
#pragma once

#include "bn_relu_conv3x3.h"
#include "patch_results.cuh"
#include "pixel_sources.cuh"
#include "threads.cuh"

namespace ladderseg::cuda {

// With more than one split, groups of threads compute the same pixels, each with its own channels of every slice; in
// the end every group has the sums of some of the pixels. So a small patch has work for a whole block.
template <class Patch_, int splits>
struct SimtPatchTile {
  using Patch = Patch_;
  static constexpr int kColumns = kPatchColumns;
  static constexpr int kPixels = 8;  // of a row, computed by a thread
  static constexpr int kThreadColumns = 4;
  static constexpr int kAcross = kColumns / kThreadColumns;  // threads side by side
  static constexpr int kGroupThreads = Patch::kPixels / kPixels * kAcross;
  static constexpr int kThreadRows = kPixels / splits;  // of the result
  static constexpr int kPiece = 16 / sizeof(Real);
  static constexpr int kColumnPiece = kPiece < kThreadColumns ? kPiece : kThreadColumns;
  static constexpr int kGroups = kProductThreads / 32;  // whose sums are added in shared memory: warps
  static_assert(kGroupThreads * splits == kProductThreads && kGroupThreads % 32 == 0, "a block, of whole warps");
  static_assert(Patch::kWidth % kPixels == 0, "whole rows of pixels");

  static constexpr int kSlice = sizeof(Real) == 8 ? 4 : 8;  // channels
  static constexpr int kSliceChunks = kSlice / kWide;
  static constexpr int kHaloHeight = Patch::kHeight + 2, kHaloWidth = Patch::kWidth + 2;
  static constexpr int kPitch = (kHaloWidth + 3) / 4 * 4;
  // The chunks of a pixel are stored by neighbouring threads. The padding, here and below, puts them half a round of
  // the banks apart.
  static constexpr int kChannelPitch = kHaloHeight * kPitch + 4;
  static constexpr int kWeightPitch = kColumns + 4;
  static_assert(kHaloHeight * kPitch % 8 == 0 && kWeightPitch * 9 % 8 == 4, "half a round of the banks for 4 channels");

  struct Slice {
    alignas(16) Real pixels[kSlice][kChannelPitch];
    alignas(16) Real weight[kSlice][9][kWeightPitch];
  };
  // One is computed with while the next is filled, where two blocks still fit on a multiprocessor.
#if __CUDA_ARCH__ == 750
  static constexpr int kSlices = 1;
#else
  static constexpr int kSlices = 2;
#endif
  union Memory {
    Slice slices[kSlices];
    Real exchanged[splits][splits == 1 ? 1 : kThreadRows * kThreadColumns][kGroupThreads];
  };

  Real sums[kThreadRows][kThreadColumns];

  LADDERSEG_DEVICE static int lane() { return product_thread() % 32; }
  LADDERSEG_DEVICE static int across() { return product_thread() % kAcross; }
  LADDERSEG_DEVICE static int split() { return product_thread() / kGroupThreads; }
  // The first pixel that this thread computes.
  LADDERSEG_DEVICE static int first_pixel() { return product_thread() % kGroupThreads / kAcross * kPixels; }

  LADDERSEG_DEVICE static int row(int i) { return first_pixel() + split() * kThreadRows + i; }
  LADDERSEG_DEVICE static int column(int j) { return across() * kThreadColumns + j; }
  LADDERSEG_DEVICE static int group() { return product_thread() / 32; }
  // Over the lanes of a warp that share columns; the result is that of the lanes that lead.
  LADDERSEG_DEVICE static Real sum_in_group(Real value) {
#pragma unroll
    for (int lanes = kAcross; lanes < 32; lanes *= 2) value += __shfl_xor_sync(0xffffffffu, value, lanes);
    return value;
  }
  LADDERSEG_DEVICE static bool leads_group() { return lane() < kAcross; }

  // Reads `count` values at an address that is a multiple of 16 bytes.
  template <int count>
  LADDERSEG_DEVICE static void read(const Real* from, Real (&to)[count]) {
    static_assert(count % 2 == 0, "in pairs at least");
#pragma unroll
    for (int i = 0; i < count; i += kPiece) {
      if constexpr (sizeof(Real) == 8) {
        const double2 pair = *reinterpret_cast<const double2*>(from + i);
        to[i] = pair.x;
        to[i + 1] = pair.y;
      } else if (i + kPiece <= count) {
        const float4 four = *reinterpret_cast<const float4*>(from + i);
        to[i] = four.x;
        to[i + 1] = four.y;
        to[i + 2] = four.z;
        to[i + 3] = four.w;
      } else {
        const float2 pair = *reinterpret_cast<const float2*>(from + i);
        to[i] = pair.x;
        to[i + 1] = pair.y;
      }
    }
  }

  // A thread's share of a slice on its way from memory, all in the same chunk of channels.
  template <class Source>
  struct PixelChunks {
    static constexpr int kHalo = kHaloHeight * kHaloWidth;
    static constexpr int kCount = (kHalo * kSliceChunks + kProductThreads - 1) / kProductThreads;
    static_assert(kProductThreads % kSliceChunks == 0, "the same chunk of every pixel");
    int64 pixels[kCount];  // -1: outside of the map
    typename Source::Raw raw[kCount];

    LADDERSEG_DEVICE static int chunk() { return product_thread() % kSliceChunks * kWide; }
    LADDERSEG_DEVICE static int halo(int thread, int i) { return (thread + i * kProductThreads) / kSliceChunks; }

    LADDERSEG_DEVICE PixelChunks(const Source& source, const Patch& patch) {
#pragma unroll
      for (int i = 0; i < kCount; ++i) {
        const int at = halo(product_thread(), i), y = at / kHaloWidth - 1, x = at % kHaloWidth - 1;
        pixels[i] = at < kHalo ? patch.pixel_of(source.rows(), source.first_row, y, x) : -1;
      }
    }
    LADDERSEG_DEVICE void fetch(const Source& source, int first) {
      const int channel = first + chunk();
      const bool there = channel < source.channels();
#pragma unroll
      for (int i = 0; i < kCount; ++i) {
        const bool inside = there && pixels[i] >= 0;  // else, so that there is no branch, the map's first is read
        raw[i] = source.fetch(inside ? pixels[i] : 0, inside ? channel : 0);
      }
    }
    LADDERSEG_DEVICE void commit(const Source& source, int first, Slice& slice) const {
      const int channel = first + chunk(), thread = thread_again();
      const bool there = channel < source.channels();
      const typename Source::Vectors vectors = source.vectors(channel);
#pragma unroll
      for (int i = 0; i < kCount; ++i) {
        const int at = halo(thread, i);
        if (at >= kHalo) continue;
        const Pack<kWide> values = source.values(raw[i], vectors);
        Real* const to = &slice.pixels[chunk()][at / kHaloWidth * kPitch + at % kHaloWidth];
#pragma unroll
        for (int k = 0; k < kWide; ++k) to[k * kChannelPitch] = pixels[i] >= 0 && there ? values.values[k] : Real(0);
      }
    }
  };

  template <class Weight>
  struct WeightChunks {
    static constexpr int kCount = (Weight::kChunks + kProductThreads - 1) / kProductThreads;
    Chunk raw[kCount];

    LADDERSEG_DEVICE void fetch(const Weight& weight, int first) {
      const int thread = thread_again();
#pragma unroll
      for (int i = 0; i < kCount; ++i) {
        const int number = thread + i * kProductThreads;
        if (number < Weight::kChunks) raw[i] = weight.fetch(first, number);
      }
    }
    LADDERSEG_DEVICE void commit(const Weight& weight, Slice& slice) const {
      const int thread = thread_again();
#pragma unroll
      for (int i = 0; i < kCount; ++i) {
        const int number = thread + i * kProductThreads;
        if (number < Weight::kChunks) weight.put(raw[i], number, slice.weight);
      }
    }
  };

  // part += the products of this thread's channels of a slice, slice.pixels from (row, x) of the frame on.
  LADDERSEG_DEVICE static void multiply_slice(const Slice& slice, Real (&part)[kPixels][kThreadColumns]) {
    const int pixel = first_pixel(), first_channel = splits == 1 ? 0 : split();
    const Real* pixels = &slice.pixels[first_channel][pixel / Patch::kWidth * kPitch + pixel % Patch::kWidth];
    const Real* weight = &slice.weight[first_channel][0][across() * kThreadColumns];
    constexpr int kUnrolled = kSlice / splits < 2 ? 1 : 2;  // not all: the instructions would not fit in their cache
#pragma unroll kUnrolled
    for (int k = 0; k < kSlice; k += splits) {
#pragma unroll
      for (int u = 0; u < 3; ++u) {
        Real values[kPixels + 2];
        read(pixels + u * kPitch, values);
#pragma unroll
        for (int v = 0; v < 3; ++v) {
          Real weights[kThreadColumns];
          read(weight + (3 * u + v) * kWeightPitch, weights);
#pragma unroll
          for (int i = 0; i < kPixels; ++i)
#pragma unroll
            for (int j = 0; j < kThreadColumns; ++j) part[i][j] += values[i + v] * weights[j];
        }
      }
      pixels += splits * kChannelPitch;
      weight += splits * 9 * kWeightPitch;
    }
  }

  // sums = the result. Leaves the block synchronised.
  template <class Source, class Weight>
  LADDERSEG_DEVICE void multiply(const Source& source, const Weight& weight, const Patch& patch, Memory& memory) {
    Real part[kPixels][kThreadColumns];
#pragma unroll
    for (int i = 0; i < kPixels; ++i)
#pragma unroll
      for (int j = 0; j < kThreadColumns; ++j) part[i][j] = Real(0);
    PixelChunks<Source> pixel_chunks(source, patch);
    WeightChunks<Weight> weight_chunks;
    const int channels = source.channels();
    pixel_chunks.fetch(source, 0);
    weight_chunks.fetch(weight, 0);
    pixel_chunks.commit(source, 0, memory.slices[0]);
    weight_chunks.commit(weight, memory.slices[0]);
    __syncthreads();
    int now = 0;
#pragma unroll 1
    for (int c = 0; c < channels; c += kSlice) {
      const int next = c + kSlice;
      if (next < channels) {
        pixel_chunks.fetch(source, next);
        weight_chunks.fetch(weight, next);
      }
      multiply_slice(memory.slices[now], part);
      if constexpr (kSlices == 1) __syncthreads();
      now = (now + 1) % kSlices;
      if (next < channels) {
        pixel_chunks.commit(source, next, memory.slices[now]);
        weight_chunks.commit(weight, memory.slices[now]);
      }
      __syncthreads();
    }
    add_splits(part, memory);
  }

  // sums = this thread's rows of the sums of all groups' parts, in a fixed order.
  LADDERSEG_DEVICE void add_splits(const Real (&part)[kPixels][kThreadColumns], Memory& memory) {
    if constexpr (splits == 1) {
#pragma unroll
      for (int i = 0; i < kThreadRows; ++i)
#pragma unroll
        for (int j = 0; j < kThreadColumns; ++j) sums[i][j] = part[i][j];
    } else {
      const int thread = product_thread() % kGroupThreads;
#pragma unroll
      for (int to = 0; to < splits; ++to) {
#pragma unroll
        for (int i = 0; i < kThreadRows; ++i)
#pragma unroll
          for (int j = 0; j < kThreadColumns; ++j)
            memory.exchanged[split()][i * kThreadColumns + j][thread] = part[to * kThreadRows + i][j];
        __syncthreads();
        if (to == split()) {
#pragma unroll
          for (int i = 0; i < kThreadRows; ++i)
#pragma unroll
            for (int j = 0; j < kThreadColumns; ++j) {
              Real sum = memory.exchanged[0][i * kThreadColumns + j][thread];
#pragma unroll
              for (int from = 1; from < splits; ++from) sum += memory.exchanged[from][i * kThreadColumns + j][thread];
              sums[i][j] = sum;
            }
        }
        __syncthreads();
      }
    }
  }
};

using LargePatchTile = SimtPatchTile<Patch<kLargePatchHeight, kLargePatchWidth>, 1>;
using SmallPatchTile = SimtPatchTile<Patch<kSmallPatchHeight, kSmallPatchWidth>, 4>;

// The address is computed in any case, so that only the load depends on `inside`, without a branch.
template <bool wide>
LADDERSEG_DEVICE Chunk fetch_or_zeros(const Element* from, bool inside) {
  Chunk chunk = {};
  if (inside) chunk = fetch_chunk<wide>(from, kWide);
  return chunk;
}

// Weights [K, 9, C'] as [tap][c][k], for the tile's columns k from `column` on, or [9, K', C'] as [tap][k][c], for
// columns c, with the taps in reverse order, as the backward needs them. Chunks of a slice are numbered so that
// neighbouring threads read neighbouring chunks. With `wide`, they are at addresses that are multiples of 16.
template <class Tile, bool wide>
struct ForwardWeight {
  const Element* data;
  int outputs, channels;  // K, C'
  int column;

  static constexpr int kChunks = 9 * Tile::kColumns * Tile::kSliceChunks;

  LADDERSEG_DEVICE static int channel(int number) { return number % Tile::kSliceChunks * kWide; }
  LADDERSEG_DEVICE static int output(int number) { return number / Tile::kSliceChunks % Tile::kColumns; }
  LADDERSEG_DEVICE static int tap(int number) { return number / (Tile::kSliceChunks * Tile::kColumns); }

  LADDERSEG_DEVICE Chunk fetch(int first, int number) const {
    const int k = column + output(number), c = first + channel(number);
    return fetch_or_zeros<wide>(data + static_cast<int64>(k * 9 + tap(number)) * channels + c,
                                k < outputs && c < channels);
  }
  LADDERSEG_DEVICE void put(const Chunk& chunk, int number, Real (&to)[Tile::kSlice][9][Tile::kWeightPitch]) const {
    const Pack<kWide> pack = unpack(chunk);
#pragma unroll
    for (int i = 0; i < kWide; ++i) to[channel(number) + i][tap(number)][output(number)] = pack.values[i];
  }
};

template <class Tile, bool wide>
struct BackwardWeight {
  const Element* data;
  int outputs, channels;  // K', C'
  int column;

  static constexpr int kAcross = Tile::kColumns / kWide;
  static constexpr int kChunks = 9 * Tile::kSlice * kAcross;

  LADDERSEG_DEVICE static int channel(int number) { return number % kAcross * kWide; }
  LADDERSEG_DEVICE static int output(int number) { return number / kAcross % Tile::kSlice; }
  LADDERSEG_DEVICE static int tap(int number) { return number / (kAcross * Tile::kSlice); }

  LADDERSEG_DEVICE Chunk fetch(int first, int number) const {
    const int k = first + output(number), c = column + channel(number);
    return fetch_or_zeros<wide>(data + static_cast<int64>(tap(number) * outputs + k) * channels + c,
                                k < outputs && c < channels);
  }
  LADDERSEG_DEVICE void put(const Chunk& chunk, int number, Real (&to)[Tile::kSlice][9][Tile::kWeightPitch]) const {
    constexpr int kPiece = 16 / sizeof(Real);
    const Pack<kWide> pack = unpack(chunk);
    Real* const row = &to[output(number)][8 - tap(number)][channel(number)];
#pragma unroll
    for (int i = 0; i < kWide; i += kPiece)
      *reinterpret_cast<uint4*>(row + i) = *reinterpret_cast<const uint4*>(&pack.values[i]);
  }
};

}  // namespace ladderseg::cuda

// Entry points of kernels with such tiles. The kernel's file has their `work_on_patch<Tile, wide>(args, memory)` and
// the PatchMemory<Tile> that it works in. Registers suffice for two blocks on a multiprocessor, except with doubles.
#define LADDERSEG_PATCH_KERNEL(name, Arguments, Tile)                                      \
  extern "C" __global__ void __launch_bounds__(kProductThreads, sizeof(Real) == 8 ? 1 : 2) \
      LADDERSEG_KERNEL(name)(const Arguments args) {                                       \
    __shared__ PatchMemory<Tile> memory;                                                   \
    if (args.wide)                                                                         \
      work_on_patch<Tile, true>(args, memory);                                             \
    else                                                                                   \
      work_on_patch<Tile, false>(args, memory);                                            \
  }
