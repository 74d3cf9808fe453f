// The weight gradient of a 3x3 convolution on tensor cores: see conv3x3_weight_maps.cuh.
//
// Six warps: a warp has one column of the taps and 16 of the channels, and all 32 outputs. It goes down the rows of a
// patch and multiplies each row of the gradient, 8 or 16 pixels deep, by three rows of y, for its three taps. Two of
// these it has from the row before. A tap's column only moves the pixels that a lane reads from, so no value is
// prepared more than once.
//
// Shared memory holds elements in chunks of 16 bytes, with a pixel's chunks permuted by the pixel's column, so that
// neither writing nor reading meets a bank twice. It holds two patches: one is computed with while the next is filled.
#pragma once

#include "conv3x3_weight.h"
#include "conv3x3_weight_maps.cuh"
#include "product_tensor.cuh"
#include "threads.cuh"

#if LADDERSEG_TENSOR_CORES
namespace ladderseg::cuda {

struct TensorWeightTile {
  static constexpr int kThreads = weight_threads(true);
  static constexpr int kChannels = weight_channels(sizeof(Element));
  static constexpr int kHeight = weight_patch_height(sizeof(Element), true);
  static constexpr int kWidth = weight_patch_width(sizeof(Element), true);
  using Pixels = Patch<kHeight, kWidth>;
#if __CUDA_ARCH__ >= 800
  static constexpr int kBlocks = 2;  // to a multiprocessor
#else
  static constexpr int kBlocks = 1;
#endif

  static constexpr int kChunks = kChannels / kWide;  // of a pixel, of y and of the gradient
  // 32-bit elements of the gradient are read one by one: there, pixels lie a quarter of the banks apart instead.
  static constexpr int kPitch = sizeof(Element) == 4 ? kChunks + 2 : kChunks;
  // Rows of the frame and of the gradient that a chunk per thread makes, and the chunks of a thread for all.
  static constexpr int kFrameWidth = kWidth + 2, kFrameHeight = kHeight + 2, kFramePixels = kFrameWidth * kFrameHeight;
  static constexpr int kFrameRows = kThreads / kChunks / kFrameWidth, kFrameCount = kFrameHeight / kFrameRows;
  static constexpr int kRows = kThreads / kChunks / kWidth, kCount = (kHeight + kRows - 1) / kRows;
  // Whether means are subtracted from x first. Elements of 16 bits have no digits left where a mean is so much larger
  // than the deviations that it matters.
  static constexpr bool kCentred = sizeof(Element) == 4;
  static_assert(kFrameHeight % kFrameRows == 0);
  static_assert(kChannels == 32 && kWeightOutputs == 32 && kThreads == 3 * 2 * 32);

  struct Memory {
    Chunk y[2][kFramePixels][kChunks];
    Chunk grad[2][Pixels::kPixels][kPitch];
    // relu((x - mean) * scale + shift), and grad - constant - slope * (x - mean) with the gradient's mean. Without
    // kCentred the means are part of shift and constant.
    alignas(16) float mean[kChannels], scale[kChannels], shift[kChannels];
    alignas(16) float grad_mean[kWeightOutputs], constant[kWeightOutputs], slope[kWeightOutputs];
  };

  // Two neighbouring outputs of tile n are sums[tap's row][n][0..1] of the first channel, and [2..3] of the second.
  float sums[3][4][4];

  const WeightArguments& args;
  const WeightShare share;
  Memory& memory;
  // Where the first of a thread's chunks lies in every patch, in memory and in shared memory, in bytes from the first
  // pixel. The others lie whole rows below.
  unsigned frame_offset, grad_offset, input_offset, frame_place, grad_place;

  LADDERSEG_DEVICE TensorWeightTile(const WeightArguments& args, Memory& memory)
      : args(args), share(WeightShare::of(args, kChannels, kWeightOutputs)), memory(memory) {
#pragma unroll
    for (int u = 0; u < 3; ++u)
#pragma unroll
      for (int n = 0; n < 4; ++n)
#pragma unroll
        for (int i = 0; i < 4; ++i) sums[u][n][i] = 0.0f;
    frame_offset = offset(args.input, frame_row(), frame_column(), share.channel);
    frame_place = (pixel() * kChunks + permuted(chunk(), frame_column())) * sizeof(Chunk);
    grad_offset = offset(args.grad_output.grad, row(), column(), share.output);
    input_offset = offset(args.grad_output.input, row(), column(), share.output);
    grad_place = (pixel() * kPitch + permuted_gradient(chunk(), column())) * sizeof(Chunk);
  }

  LADDERSEG_DEVICE static int lane() { return static_cast<int>(threadIdx.x) % 32; }
  LADDERSEG_DEVICE static int tap_column() { return static_cast<int>(threadIdx.x) / 32 % 3; }
  LADDERSEG_DEVICE static int channel_half() { return static_cast<int>(threadIdx.x) / 96; }

  // Where chunk `number` of a pixel lies whose column, in the patch or in the frame, is `column`.
  LADDERSEG_DEVICE static int permuted(int number, int column) {
    return number ^ (sizeof(Element) == 4 ? 2 * (column % 4) : column / 2 % 4);
  }
  LADDERSEG_DEVICE static int permuted_gradient(int number, int column) {
    return sizeof(Element) == 4 ? number : permuted(number, column);
  }

  LADDERSEG_DEVICE static int chunk() { return static_cast<int>(threadIdx.x) % kChunks; }
  LADDERSEG_DEVICE static int pixel() { return static_cast<int>(threadIdx.x) / kChunks; }
  LADDERSEG_DEVICE static int frame_row() { return pixel() / kFrameWidth; }
  LADDERSEG_DEVICE static int frame_column() { return pixel() % kFrameWidth; }
  LADDERSEG_DEVICE static int row() { return pixel() / kWidth; }
  LADDERSEG_DEVICE static int column() { return pixel() % kWidth; }
  // Whether a thread has chunks of the frame, and whether it has chunk i of the gradient.
  LADDERSEG_DEVICE static bool has_frame() { return pixel() < kFrameRows * kFrameWidth; }
  LADDERSEG_DEVICE static bool has_gradient(int i) { return (i + 1) * kRows <= kHeight || row() + i * kRows < kHeight; }

  LADDERSEG_DEVICE void read_vectors() const {
    const int i = threadIdx.x;
    if (i < kChannels) {
      const int c = share.channel + i;
      const bool there = c < args.input.c;
      const float mean = there ? args.norm.mean[c] : 0.0f, scale = there ? args.norm.scale[c] : 0.0f;
      memory.mean[i] = mean;
      memory.scale[i] = scale;
      memory.shift[i] = (there ? args.norm.shift[c] : 0.0f) - (kCentred ? 0.0f : mean * scale);
    } else if (i < kChannels + kWeightOutputs) {
      const Gradient<Element, Real>& gradient = args.grad_output;
      const int number = i - kChannels, k = share.output + number;
      const bool there = gradient.input.data && k < gradient.grad.c;
      const float mean = there ? gradient.mean[k] : 0.0f, slope = there ? gradient.slope[k] : 0.0f;
      memory.grad_mean[number] = mean;
      memory.slope[number] = slope;
      memory.constant[number] = (there ? gradient.constant[k] : 0.0f) - (kCentred ? 0.0f : mean * slope);
    }
  }

  // A thread's chunks of a patch on their way to shared memory: of y, with the frame, or of the gradient and the input
  // that corrects it. `outside` has a bit for each chunk that the thread has and whose pixel is outside.
  struct Frame {
    Chunk chunks[kFrameCount];
    unsigned outside;
  };
  struct Gradients {
    Chunk chunks[kCount], inputs[kCount];
    unsigned outside;
  };

  // Bytes from the first pixel of a patch, or of its frame, to a thread's chunk at pixel (i, j).
  LADDERSEG_DEVICE unsigned offset(const FeatureMap<const Element>& map, int i, int j, int first_channel) const {
    const unsigned pixel = (i * static_cast<unsigned>(map.w) + j) * args.patches.step;
    const unsigned channel = existing_channel(map, first_channel + chunk() * kWide);
    return (pixel * static_cast<unsigned>(map.pixel_stride) + channel) * sizeof(Element);
  }

  LADDERSEG_DEVICE static Chunk load(const Element* from, unsigned bytes) {
    Chunk loaded;
    loaded.words = *reinterpret_cast<const uint4*>(reinterpret_cast<const char*>(from) + bytes);
    return loaded;
  }

  // Both fetch into zeros: what is not fetched stays zero, for values that are never set would take registers of their
  // own.
  LADDERSEG_DEVICE void fetch(const Pixels& patch, Frame& raw) const {
    const InputPatch<Pixels> input(args, patch);
    const Element* const first = input.first();
    const unsigned next = input.bytes_down(kFrameRows);
    if (input.whole) {
#pragma unroll
      for (int i = 0; i < kFrameCount; ++i)
        if (has_frame()) raw.chunks[i] = load(first, frame_offset + i * next);
    } else if (has_frame()) {
      const int p = thread_again() / kChunks;
#pragma unroll
      for (int i = 0; i < kFrameCount; ++i) {
        if (input.inside(p / kFrameWidth + i * kFrameRows, p % kFrameWidth))
          raw.chunks[i] = load(first, frame_offset + i * next);
        else
          raw.outside |= 1u << i;
      }
    }
  }
  LADDERSEG_DEVICE void fetch(const Pixels& patch, Gradients& raw) const {
    const GradientPatch<Pixels> gradient(args, args.grad_output.grad, patch);
    if (!gradient.whole) {
      const int p = thread_again() / kChunks;
#pragma unroll
      for (int i = 0; i < kCount; ++i)
        if (!gradient.inside(p / kWidth + i * kRows, p % kWidth)) raw.outside |= 1u << i;
    }
    fetch(gradient, grad_offset, raw.outside, raw.chunks);
    const FeatureMap<const Element>& input = args.grad_output.input;
    if (input.data) fetch(GradientPatch<Pixels>(args, input, patch), input_offset, raw.outside, raw.inputs);
  }
  LADDERSEG_DEVICE static void fetch(const GradientPatch<Pixels>& gradient, unsigned offset, unsigned outside,
                                     Chunk (&chunks)[kCount]) {
    const Element* const first = gradient.pixel(0, 0);
    const unsigned next = gradient.bytes_down(kRows);
    if (gradient.whole) {
#pragma unroll
      for (int i = 0; i < kCount; ++i)
        if (has_gradient(i)) chunks[i] = load(first, offset + i * next);
    } else {
#pragma unroll
      for (int i = 0; i < kCount; ++i)
        if (has_gradient(i) && !(outside >> i & 1u)) chunks[i] = load(first, offset + i * next);
    }
  }

  LADDERSEG_DEVICE static Chunk& at(Chunk* first, unsigned bytes) {
    return *reinterpret_cast<Chunk*>(reinterpret_cast<char*>(first) + bytes);
  }

  LADDERSEG_DEVICE void put(const Frame& raw, Chunk* to) const {
    constexpr unsigned kNext = kFrameRows * kFrameWidth * kChunks * sizeof(Chunk);
    if (!has_frame()) return;
    const Pack<kWide> scale = vector(memory.scale), shift = vector(memory.shift);
#pragma unroll
    for (int i = 0; i < kFrameCount; ++i) {
      Pack<kWide> y = centred(raw.chunks[i], memory.mean);
#pragma unroll
      for (int k = 0; k < kWide; ++k) y.values[k] = rectified(y.values[k] * scale.values[k] + shift.values[k]);
      at(to, frame_place + i * kNext).words = encode(y).words;
    }
    if (!raw.outside) return;
#pragma unroll
    for (int i = 0; i < kFrameCount; ++i)
      if (raw.outside >> i & 1u) at(to, frame_place + i * kNext) = {};
  }

  LADDERSEG_DEVICE void put(const Gradients& raw, Chunk* to) const {
    constexpr unsigned kNext = kRows * kWidth * kPitch * sizeof(Chunk);
    const Pack<kWide> constant = vector(memory.constant), slope = vector(memory.slope);
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      if (!has_gradient(i)) continue;
      Pack<kWide> grad = unpack(raw.chunks[i]);
      const Pack<kWide> x = centred(raw.inputs[i], memory.grad_mean);
#pragma unroll
      for (int k = 0; k < kWide; ++k)
        grad.values[k] = grad.values[k] - constant.values[k] - slope.values[k] * x.values[k];
      at(to, grad_place + i * kNext).words = encode(grad).words;
    }
    if (!raw.outside) return;
#pragma unroll
    for (int i = 0; i < kCount; ++i)
      if (has_gradient(i) && raw.outside >> i & 1u) at(to, grad_place + i * kNext) = {};
  }

  // A thread's chunk, with kCentred minus the mean.
  template <int count>
  LADDERSEG_DEVICE static Pack<kWide> centred(const Chunk& chunk, const float (&mean)[count]) {
    Pack<kWide> x = unpack(chunk);
    if constexpr (kCentred) {
      const Pack<kWide> subtracted = vector(mean);
#pragma unroll
      for (int k = 0; k < kWide; ++k) x.values[k] -= subtracted.values[k];
    }
    return x;
  }

  // The part for a thread's chunk.
  template <int count>
  LADDERSEG_DEVICE static Pack<kWide> vector(const float (&of)[count]) {
    Pack<kWide> pack;
#pragma unroll
    for (int i = 0; i < kWide; i += 4) {
      const float4 four = *reinterpret_cast<const float4*>(&of[chunk() * kWide + i]);
      pack.values[i] = four.x;
      pack.values[i + 1] = four.y;
      pack.values[i + 2] = four.z;
      pack.values[i + 3] = four.w;
    }
    return pack;
  }

  // What a warp multiplies: y, moved by the warp's column of taps, as the left factor, and the gradient as the right
  // one. Lanes read from the same place of each row.
  struct Factors {
    const char *y, *grad[2];

    LADDERSEG_DEVICE Factors(const Chunk (&frame)[kFramePixels][kChunks],
                             const Chunk (&gradient)[Pixels::kPixels][kPitch]) {
      if constexpr (sizeof(Element) == 4) {
        // Row i of the left factor is channel 2 * i, and row i + 8 channel 2 * i + 1: so a lane's values lie together.
        const int i = lane() / 4, p = lane() % 4, column = tap_column() + p;
        y = reinterpret_cast<const char*>(&frame[column][permuted(channel_half() * 4 + i / 2, column)]) + i % 2 * 8;
        grad[0] = grad[1] = reinterpret_cast<const char*>(&gradient[p][0]) + i * 4;
      } else {
        const int column = tap_column() + lane() % 8 + lane() / 16 * 8, p = lane() % 16;
        y = reinterpret_cast<const char*>(&frame[column][permuted(channel_half() * 2 + lane() / 8 % 2, column)]);
#pragma unroll
        for (int n = 0; n < 2; ++n)
          grad[n] = reinterpret_cast<const char*>(&gradient[p][permuted(2 * n + lane() / 16, p)]);
      }
    }

    LADDERSEG_DEVICE Registers4 left(int row) const {
      const char* const from = y + row * static_cast<int>(kFrameWidth * kChunks * sizeof(Chunk));
      if constexpr (sizeof(Element) == 4) {
        const uint2 first = *reinterpret_cast<const uint2*>(from);
        const uint2 second = *reinterpret_cast<const uint2*>(from + 4 * kChunks * sizeof(Chunk));
        return {{first.x, first.y, second.x, second.y}};
      } else {
        return load_matrices_transposed(from);
      }
    }

    LADDERSEG_DEVICE void right(int row, Registers2 (&tiles)[4]) const {
      const int offset = row * static_cast<int>(kWidth * kPitch * sizeof(Chunk));
      if constexpr (sizeof(Element) == 4) {
#pragma unroll
        for (int n = 0; n < 4; ++n)
          tiles[n] = {{*reinterpret_cast<const unsigned*>(grad[0] + offset + n * 32),
                       *reinterpret_cast<const unsigned*>(grad[0] + offset + n * 32 + 4 * kPitch * sizeof(Chunk))}};
      } else {
        const Registers4 low = load_matrices_transposed(grad[0] + offset);
        const Registers4 high = load_matrices_transposed(grad[1] + offset);
        tiles[0] = {{low.r[0], low.r[1]}};
        tiles[1] = {{low.r[2], low.r[3]}};
        tiles[2] = {{high.r[0], high.r[1]}};
        tiles[3] = {{high.r[2], high.r[3]}};
      }
    }
  };

  // Adds the products with rows [begin, end) of the gradient. `window` has row r of y, of the frame, at r % 3; the two
  // before the next are there.
  template <int begin, int end>
  LADDERSEG_DEVICE void multiply(const Factors& factors, Registers4 (&window)[3]) {
#pragma unroll
    for (int row = begin; row < end; ++row) {
      window[(row + 2) % 3] = factors.left(row + 2);
      Registers2 grad[4];
      factors.right(row, grad);
#pragma unroll
      for (int u = 0; u < 3; ++u)
#pragma unroll
        for (int n = 0; n < 4; ++n) multiply_add(sums[u][n], window[(row + u) % 3], grad[n]);
    }
  }

  LADDERSEG_DEVICE void work() {
    read_vectors();
    __syncthreads();
    if (share.first < share.last) {
      const Pixels patch = Pixels::of(args.patches, share.first);
      Frame frame = {};
      fetch(patch, frame);
      put(frame, memory.y[0][0]);
      Gradients gradients = {};
      fetch(patch, gradients);
      put(gradients, memory.grad[0][0]);
    }
    __syncthreads();
    int now = 0;
#pragma unroll 1
    for (int number = share.first; number < share.last; ++number) {
      const bool more = number + 1 < share.last;
      const Pixels next = Pixels::of(args.patches, number + 1);
      const Factors factors(memory.y[now], memory.grad[now]);
      Registers4 window[3];
      window[0] = factors.left(0);
      window[1] = factors.left(1);
      // The next patch is on its way while a half of this one is multiplied: first y, then the gradient.
      Frame frame = {};
      if (more) fetch(next, frame);
      multiply<0, kHeight / 2>(factors, window);
      if (more) put(frame, memory.y[now ^ 1][0]);
      Gradients gradients = {};
      if (more) fetch(next, gradients);
      multiply<kHeight / 2, kHeight>(factors, window);
      if (more) put(gradients, memory.grad[now ^ 1][0]);
      __syncthreads();
      now ^= 1;
    }
    write();
  }

  LADDERSEG_DEVICE void write() const {
    const int i = lane() / 4, pair = lane() % 4;
#pragma unroll
    for (int u = 0; u < 3; ++u)
#pragma unroll
      for (int second = 0; second < 2; ++second) {
        const int c = channel_half() * 16 + (sizeof(Element) == 4 ? 2 * i + second : i + 8 * second);
#pragma unroll
        for (int n = 0; n < 4; ++n) {
          const int k = 8 * n + 2 * pair;
          if (share.channel + c < args.padded_channels && share.output + k < args.grad_output.grad.c)
            *reinterpret_cast<float2*>(share.at(args, 3 * u + tap_column(), c, k)) =
                make_float2(sums[u][n][2 * second], sums[u][n][2 * second + 1]);
        }
      }
  }
};

}  // namespace ladderseg::cuda
#endif
