// The weight gradient of a 3x3 convolution on the ordinary arithmetic units: for every architecture and element type.
// See conv3x3_weight_maps.cuh.
//
// A thread has two channels (of doubles, one), four outputs and all taps, so 72 sums, and half of the rows of a patch.
// It goes along a row with a window of 3x3 pixels of y: for every pixel of the gradient it reads three new ones.
#pragma once

#include "conv3x3_weight.h"
#include "conv3x3_weight_maps.cuh"
#include "threads.cuh"

namespace ladderseg::cuda {

struct SimtWeightTile {
  static constexpr int kThreads = weight_threads(false);
  static constexpr int kChannels = weight_channels(sizeof(Element));
  static constexpr int kHeight = weight_patch_height(sizeof(Element), false);
  static constexpr int kWidth = weight_patch_width(sizeof(Element), false);
  using Pixels = Patch<kHeight, kWidth>;

  static constexpr int kOutputThreads = kWeightOutputs / 4;
  static constexpr int kChannelThreads = 16;
  static constexpr int kHalf = kOutputThreads * kChannelThreads;  // threads
  static constexpr int kThreadChannels = kChannels / kChannelThreads;
  static constexpr int kFrameWidth = kWidth + 2;
  static constexpr int kFramePixels = (kHeight + 2) * kFrameWidth;
  static constexpr int kPiece = 16 / sizeof(Real);
  static constexpr int kRowSums = 3 * kThreadChannels * 4;  // of one row of taps
  static_assert(2 * kHalf == kThreads);

  struct Maps {
    Real y[kFramePixels][kChannels];
    Real grad[Pixels::kPixels][kWeightOutputs];
  };
  struct Memory {
    union alignas(16) {
      Maps maps;
      Real sums[kRowSums][kHalf];
    };
    struct alignas(16) {
      Real mean[kChannels], scale[kChannels], shift[kChannels];
    } norm;
    struct alignas(16) {
      Real mean[kWeightOutputs], constant[kWeightOutputs], slope[kWeightOutputs];
    } correction;
  };

  Real sums[9][kThreadChannels][4];

  const WeightArguments& args;
  const WeightShare share;
  Memory& memory;

  LADDERSEG_DEVICE SimtWeightTile(const WeightArguments& args, Memory& memory)
      : args(args), share(WeightShare::of(args, kChannels, kWeightOutputs)), memory(memory) {
#pragma unroll
    for (int tap = 0; tap < 9; ++tap)
#pragma unroll
      for (int c = 0; c < kThreadChannels; ++c)
#pragma unroll
        for (int k = 0; k < 4; ++k) sums[tap][c][k] = Real(0);
  }

  LADDERSEG_DEVICE static int output() { return static_cast<int>(threadIdx.x) % kOutputThreads * 4; }
  LADDERSEG_DEVICE static int channel() {
    return static_cast<int>(threadIdx.x) / kOutputThreads % kChannelThreads * kThreadChannels;
  }
  LADDERSEG_DEVICE static int half() { return static_cast<int>(threadIdx.x) / kHalf; }

  LADDERSEG_DEVICE void read_vectors() const {
    const int i = threadIdx.x;
    if (i < kChannels) {
      const int c = share.channel + i;
      const bool there = c < args.input.c;
      memory.norm.mean[i] = there ? args.norm.mean[c] : Real(0);
      memory.norm.scale[i] = there ? args.norm.scale[c] : Real(0);
      memory.norm.shift[i] = there ? args.norm.shift[c] : Real(0);
    } else if (i < kChannels + kWeightOutputs) {
      const Gradient<Element, Real>& gradient = args.grad_output;
      const int number = i - kChannels, k = share.output + number;
      const bool there = gradient.input.data && k < gradient.grad.c;
      memory.correction.mean[number] = there ? gradient.mean[k] : Real(0);
      memory.correction.constant[number] = there ? gradient.constant[k] : Real(0);
      memory.correction.slope[number] = there ? gradient.slope[k] : Real(0);
    }
  }

  // Writes y at a patch with its frame, and the gradient, to shared memory.
  LADDERSEG_DEVICE void fill(const Pixels& patch) const {
    const int thread = thread_again();
    const InputPatch<Pixels> input(args, patch);
    if (!args.wide)
      fill_y<false, false>(input, thread);
    else if (input.whole)
      fill_y<true, true>(input, thread);
    else
      fill_y<true, false>(input, thread);
    if (!args.wide)
      fill_gradient<false, false>(patch, thread);
    else if (GradientPatch<Pixels>(args, args.grad_output.grad, patch).whole)
      fill_gradient<true, true>(patch, thread);
    else
      fill_gradient<true, false>(patch, thread);
  }

  // With `wide`, a thread reads 16 bytes at a time, else a value. With `whole`, the whole patch is inside.
  template <bool wide, bool whole>
  LADDERSEG_DEVICE void fill_y(const InputPatch<Pixels>& input, int thread) const {
    constexpr int kCount = wide ? kWide : 1, kAcross = kChannels / kCount, kDown = kThreads / kAcross;
    constexpr int kPart = wide ? kPiece : 1;
    const int c = thread % kAcross * kCount, channel = existing_channel(args.input, share.channel + c);
#pragma unroll whole && sizeof(Element)> 2 ? 2 : 1  // more pixels on their way than registers
    for (int p = thread / kAcross; p < kFramePixels; p += kDown) {
      const int i = p / kFrameWidth, j = p % kFrameWidth;
      const bool inside = whole || input.inside(i, j);
      Chunk x = {};
      if (inside) x = fetch<wide>(input.pixel(i, j) + channel);
#pragma unroll
      for (int k = 0; k < kCount; k += kPart) {
        const Pack<kPart> mean = read<kPart>(&memory.norm.mean[c + k]), scale = read<kPart>(&memory.norm.scale[c + k]),
                          shift = read<kPart>(&memory.norm.shift[c + k]);
        Pack<kPart> y;
#pragma unroll
        for (int n = 0; n < kPart; ++n) {
          const Real value = normalised(to_real(x.elements[k + n]), mean.values[n], scale.values[n], shift.values[n]);
          y.values[n] = inside ? rectified(value) : Real(0);
        }
        write(&memory.maps.y[p][c + k], y);
      }
    }
  }

  template <bool wide, bool whole>
  LADDERSEG_DEVICE void fill_gradient(const Pixels& patch, int thread) const {
    const GradientPatch<Pixels> gradient(args, args.grad_output.grad, patch),
        input(args, args.grad_output.input, patch);
    constexpr int kCount = wide ? kWide : 1, kAcross = kWeightOutputs / kCount, kDown = kThreads / kAcross;
    constexpr int kPart = wide ? kPiece : 1;
    const int c = thread % kAcross * kCount, channel = existing_channel(args.grad_output.grad, share.output + c);
    const bool corrected = args.grad_output.input.data;
    static_assert(Pixels::kPixels % kDown == 0);
#pragma unroll 1  // two maps are read
    for (int step = 0; step < Pixels::kPixels; step += kDown) {
      const int p = thread / kAcross + step, i = p / kWidth, j = p % kWidth;
      const bool inside = whole || gradient.inside(i, j);
      Chunk grad = {}, x = {};
      if (inside) {
        grad = fetch<wide>(gradient.pixel(i, j) + channel);
        if (corrected) x = fetch<wide>(input.pixel(i, j) + channel);
      }
#pragma unroll
      for (int k = 0; k < kCount; k += kPart) {
        const Pack<kPart> mean = read<kPart>(&memory.correction.mean[c + k]),
                          constant = read<kPart>(&memory.correction.constant[c + k]),
                          slope = read<kPart>(&memory.correction.slope[c + k]);
        Pack<kPart> value;
#pragma unroll
        for (int n = 0; n < kPart; ++n) {
          const Real centred = to_real(x.elements[k + n]) - mean.values[n];
          const Real result = to_real(grad.elements[k + n]) - constant.values[n] - slope.values[n] * centred;
          value.values[n] = inside ? result : Real(0);
        }
        write(&memory.maps.grad[p][c + k], value);
      }
    }
  }

  // 16 bytes, or the first element alone.
  template <bool wide>
  LADDERSEG_DEVICE static Chunk fetch(const Element* from) {
    Chunk chunk = {};
    if constexpr (wide)
      chunk.words = *reinterpret_cast<const uint4*>(from);
    else
      chunk.elements[0] = *from;
    return chunk;
  }

  // `count` neighbouring values in shared memory, 16 bytes at a time where they are as many.
  template <int count>
  LADDERSEG_DEVICE static Pack<count> read(const Real* from) {
    constexpr int kTogether = count < kPiece ? count : kPiece;
    struct alignas(kTogether * sizeof(Real)) Piece {
      Real values[kTogether];
    };
    Pack<count> pack;
#pragma unroll
    for (int i = 0; i < count; i += kTogether) {
      const Piece piece = *reinterpret_cast<const Piece*>(from + i);
#pragma unroll
      for (int k = 0; k < kTogether; ++k) pack.values[i + k] = piece.values[k];
    }
    return pack;
  }
  template <int count>
  LADDERSEG_DEVICE static void write(Real* to, const Pack<count>& pack) {
    constexpr int kTogether = count < kPiece ? count : kPiece;
    struct alignas(kTogether * sizeof(Real)) Piece {
      Real values[kTogether];
    };
#pragma unroll
    for (int i = 0; i < count; i += kTogether) {
      Piece piece;
#pragma unroll
      for (int k = 0; k < kTogether; ++k) piece.values[k] = pack.values[i + k];
      *reinterpret_cast<Piece*>(to + i) = piece;
    }
  }

  // Four columns of y, of three rows each: that of column x of the frame is at x % 4.
  using Window = Pack<kThreadChannels>[4][3];

  LADDERSEG_DEVICE static void load_column(const Real* y, Pack<kThreadChannels> (&column)[3]) {
#pragma unroll
    for (int u = 0; u < 3; ++u) column[u] = read<kThreadChannels>(y + u * kFrameWidth * kChannels);
  }

  // Adds the products with a pixel, in column x of the patch, of the gradient; its y is at column x of the frame.
  LADDERSEG_DEVICE void multiply(const Real* y, const Real* grad, Window& window, int x) {
    if constexpr (sizeof(Real) == 8) asm volatile("" ::: "memory");  // reads no sooner: registers are short
    load_column(y + 2 * kChannels, window[(x + 2) % 4]);
    const Pack<4> right = read<4>(grad);
#pragma unroll
    for (int u = 0; u < 3; ++u)
#pragma unroll
      for (int v = 0; v < 3; ++v)
#pragma unroll
        for (int c = 0; c < kThreadChannels; ++c)
#pragma unroll
          for (int k = 0; k < 4; ++k) sums[3 * u + v][c][k] += window[(x + v) % 4][u].values[c] * right.values[k];
  }

  LADDERSEG_DEVICE void multiply() {
    static_assert(kWidth % 4 == 0, "steps of four pixels, after which the window is where it was");
    constexpr int kRows = kHeight / 2;
    const Real* y = &memory.maps.y[half() * kRows * kFrameWidth][channel()];
    const Real* grad = &memory.maps.grad[half() * kRows * kWidth][output()];
#pragma unroll 1
    for (int row = 0; row < kRows; ++row) {
      Window window;
      load_column(y, window[0]);
      load_column(y + kChannels, window[1]);
#pragma unroll 1
      for (int x = 0; x < kWidth; x += 4) {
#pragma unroll
        for (int i = 0; i < 4; ++i) multiply(y + i * kChannels, grad + i * kWeightOutputs, window, i);
        y += 4 * kChannels;
        grad += 4 * kWeightOutputs;
      }
      y += (kFrameWidth - kWidth) * kChannels;
    }
  }

  LADDERSEG_DEVICE void work() {
    read_vectors();
    __syncthreads();
#pragma unroll 1
    for (int number = share.first; number < share.last; ++number) {
      const Pixels patch = Pixels::of(args.patches, number);
      fill(patch);
      __syncthreads();
      multiply();
      __syncthreads();
    }
    write();
  }

  // Adds the sums over both halves of the rows, and stores them.
  LADDERSEG_DEVICE void write() const {
    const int thread = static_cast<int>(threadIdx.x) % kHalf;
#pragma unroll
    for (int u = 0; u < 3; ++u) {
      if (half() == 1) {
#pragma unroll
        for (int i = 0; i < kRowSums; ++i) memory.sums[i][thread] = sum(u, i);
      }
      __syncthreads();
      if (half() == 0) {
#pragma unroll
        for (int i = 0; i < kRowSums; ++i) {
          const int v = i / (4 * kThreadChannels), c = channel() + i / 4 % kThreadChannels, k = output() + i % 4;
          if (share.channel + c < args.padded_channels && share.output + k < args.grad_output.grad.c)
            *share.at(args, 3 * u + v, c, k) = sum(u, i) + memory.sums[i][thread];
        }
      }
      __syncthreads();
    }
  }
  LADDERSEG_DEVICE Real sum(int u, int i) const {
    return sums[3 * u + i / (4 * kThreadChannels)][i / 4 % kThreadChannels][i % 4];
  }
};

}  // namespace ladderseg::cuda
