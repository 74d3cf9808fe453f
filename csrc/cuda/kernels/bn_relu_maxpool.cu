// Batch norm, rectification and max pooling: see ladderseg/bn_relu_maxpool.h.
//
// The maximum of rectified values is the rectified maximum, and if that is 0 no gradient passes. So windows are
// searched before the relu.
#include "bn_relu_maxpool.h"
#include "columns.cuh"
#include "grid_walk.cuh"

namespace ladderseg::cuda {

LADDERSEG_DEVICE int64 clamped(int64 value, int64 end) { return value < 0 ? 0 : value >= end ? end - 1 : value; }

// By torch's rule the first maximum and the last NaN win.
LADDERSEG_DEVICE bool replaces(Real y, Real maximum) { return y > maximum || y != y; }

// The norm of +x or -x, by the sign of the scale.
template <int width>
LADDERSEG_DEVICE ChannelNorm<width> signs_only(const Norm<Real>& norm, int64 c) {
  ChannelNorm<width> result;
#pragma unroll
  for (int i = 0; i < width; ++i) result.scale[i] = norm.scale[c + i] < Real(0) ? Real(-1) : Real(1);
  return result;
}

// The result without a mean. If the scale is 0 or NaN, it is the first x, unless an x is NaN.
template <int width>
LADDERSEG_DEVICE Pack<width> extremes(const BnReluMaxpoolForwardArguments<Element, Real>& args, int64 c,
                                      const Pack<width>& maximum, const Pack<width>& first) {
  Pack<width> result;
#pragma unroll
  for (int i = 0; i < width; ++i) {
    const Real scale = args.norm.scale[c + i], best = maximum.values[i];
    const Real extreme = scale < Real(0) ? -best : best;
    result.values[i] = scale < Real(0) || scale > Real(0) || best != best ? extreme : first.values[i];
  }
  return result;
}

template <int width>
LADDERSEG_DEVICE void bn_relu_maxpool_forward(const BnReluMaxpoolForwardArguments<Element, Real>& args) {
  const int64 c = column<width>();
  const PixelRange range = block_pixels(args.columns, args.output.pixels());
  int64 p = range.begin + threadIdx.y;
  if (c >= args.input.c || p >= range.end) return;
  const auto norm = args.norm.mean ? ChannelNorm<width>(args.norm, c) : signs_only<width>(args.norm, c);
  GridWalk walk(p, blockDim.y, args.output.h, args.output.w);
  for (; p < range.end; p += blockDim.y, walk.advance()) {
    const int64 row = args.first_row + 2 * static_cast<int64>(walk.row), column = 2 * static_cast<int64>(walk.column);
    const Element* const image = args.input.at(walk.image, 0, 0) + c;
    Pack<width> maximum, first;
#pragma unroll
    for (int tap = 0; tap < 9; ++tap) {
      // A position outside the map counts its nearest pixel once more, which changes no maximum.
      const int64 y = clamped(row + tap / 3 - 1, args.input.h), x = clamped(column + tap % 3 - 1, args.input.w);
      const auto values = load<width>(image + (y * args.input.w + x) * args.input.pixel_stride);
      if (tap == 0) first = values;
#pragma unroll
      for (int i = 0; i < width; ++i) {
        const Real value = norm(values.values[i], i);
        maximum.values[i] = tap == 0 || replaces(value, maximum.values[i]) ? value : maximum.values[i];
      }
    }
    if (args.norm.mean) {
#pragma unroll
      for (int i = 0; i < width; ++i) maximum.values[i] = rectified(maximum.values[i]);
    } else {
      maximum = extremes(args, c, maximum, first);
    }
    store<width>(args.output.pixel(p) + c, maximum);
  }
}

// Channels of a thread of the backward, if wide: registers do not suffice for eight channels.
constexpr int kBackwardWide = kWide < 4 ? kWide : 4;

template <int width>
LADDERSEG_DEVICE Pack<width> load_narrow(const Element* from) {
  if constexpr (width == 1 || width == kWide) {
    return load<width>(from);
  } else {
    union {
      uint2 words;
      Element elements[width];
    } both;
    static_assert(sizeof(both) == sizeof(uint2), "8 bytes");
    both.words = *reinterpret_cast<const uint2*>(from);
    Pack<width> pack;
#pragma unroll
    for (int i = 0; i < width; ++i) pack.values[i] = to_real(both.elements[i]);
    return pack;
  }
}

template <int width>
LADDERSEG_DEVICE void store_narrow(Element* to, const Pack<width>& pack) {
  if constexpr (width == 1 || width == kWide) {
    store<width>(to, pack);
  } else {
    union {
      uint2 words;
      Element elements[width];
    } both;
#pragma unroll
    for (int i = 0; i < width; ++i) both.elements[i] = to_element(pack.values[i]);
    *reinterpret_cast<uint2*>(to) = both.words;
  }
}

// Gradient that one window gives to the input pixels under it: `grad`, at its `source` (3 * row + column in it).
template <int width>
struct Window {
  Pack<width> grad;
  int source[width];

  LADDERSEG_DEVICE void add_at(int position, Pack<width>& to) const {
#pragma unroll
    for (int i = 0; i < width; ++i) to.values[i] += source[i] == position ? grad.values[i] : Real(0);
  }
};

// A window without a value above 0 has no source. Columns are kept in range, which makes the loads unconditional;
// pixels outside the map are then left out.
template <int width>
LADDERSEG_DEVICE Window<width> find_source(const BnReluMaxpoolBackwardArguments<Element, Real>& args,
                                           const ChannelNorm<width>& norm, const Element* image, int64 row,
                                           int64 column, const Element* grad) {
  Window<width> window;
  Pack<width> maximum;
#pragma unroll
  for (int i = 0; i < width; ++i) {
    maximum.values[i] = Real(0);
    window.source[i] = -1;
  }
#pragma unroll 1
  for (int window_row = 0; window_row < 3; ++window_row) {
    const int64 y = row + window_row - 1;
    if (y < 0 || y >= args.input.h) continue;
    const Element* const from = image + y * args.input.w * args.input.pixel_stride;
#pragma unroll
    for (int window_column = 0; window_column < 3; ++window_column) {
      const int64 x = column + window_column - 1, inside = clamped(x, args.input.w);
      const auto values = load_narrow<width>(from + inside * args.input.pixel_stride);
#pragma unroll
      for (int i = 0; i < width; ++i) {
        const Real value = norm(values.values[i], i);
        const bool here = x == inside && replaces(value, maximum.values[i]);
        maximum.values[i] = here ? value : maximum.values[i];
        window.source[i] = here ? 3 * window_row + window_column : window.source[i];
      }
    }
  }
  window.grad = load_narrow<width>(grad);
  return window;
}

// Two pixels side by side (one at the right edge) of input row `row`: their gradients are complete.
template <int width>
LADDERSEG_DEVICE void finish_pixels(const BnReluMaxpoolBackwardArguments<Element, Real>& args,
                                    const ChannelNorm<width>& norm, int64 image, int64 row, int64 column, int64 c,
                                    const Pack<width> (&grads)[2], ChannelSums<width>& sums) {
  const int64 grad_row = row - args.first_grad_row;
  if (grad_row < 0 || grad_row >= args.grad_input.h) return;
#pragma unroll
  for (int j = 0; j < 2; ++j) {
    if (column + j >= args.input.w) return;
    const auto x = load_narrow<width>(args.input.at(image, row, column + j) + c);
    Pack<width> result;
#pragma unroll
    for (int i = 0; i < width; ++i) {
      result.values[i] = sums.add(norm, i, x.values[i], grads[j].values[i]);
      if (args.constant) result.values[i] -= args.constant[c + i] + args.slope[c + i] * (x.values[i] - norm.mean[i]);
    }
    if (args.grad_input.data) store_narrow<width>(args.grad_input.at(image, grad_row, column + j) + c, result);
  }
}

// A run: the windows of columns s and s + 1 of the pooled map, row by row. With row q of them, input rows 2q - 1 and 2q
// (counted from first_row) have seen all their windows, at columns 2s and 2s + 1; row 2q + 1 waits for the next.
template <int width>
LADDERSEG_DEVICE void backward_run(const BnReluMaxpoolBackwardArguments<Element, Real>& args,
                                   const ChannelNorm<width>& norm, int64 image, int64 run, int64 s, int64 c,
                                   ChannelSums<width>& sums) {
  const Element* const pixels = args.input.at(image, 0, 0) + c;
  const int64 begin = args.first_window_row + run * args.run_rows;
  Pack<width> waiting[2] = {};
  for (int64 q = begin - 1; q < begin + args.run_rows; ++q) {
    const int64 centre = args.first_row + 2 * q;
    Pack<width> above[2] = {waiting[0], waiting[1]}, here[2] = {};
    waiting[0] = waiting[1] = {};
    if (q >= 0 && q < args.grad_output.h) {
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        if (s + j >= args.grad_output.w) break;
        const auto window =
            find_source(args, norm, pixels, centre, 2 * (s + j), args.grad_output.at(image, q, s + j) + c);
        if (j == 0) {
          window.add_at(1, above[0]);
          window.add_at(4, here[0]);
          window.add_at(7, waiting[0]);
        }
        window.add_at(j == 0 ? 2 : 0, above[1]);
        window.add_at(j == 0 ? 5 : 3, here[1]);
        window.add_at(j == 0 ? 8 : 6, waiting[1]);
      }
    }
    if (q < begin) continue;
    finish_pixels(args, norm, image, centre - 1, 2 * s, c, above, sums);
    finish_pixels(args, norm, image, centre, 2 * s, c, here, sums);
  }
}

template <int width>
LADDERSEG_DEVICE void bn_relu_maxpool_backward(const BnReluMaxpoolBackwardArguments<Element, Real>& args,
                                               Real* shared) {
  const int64 c = column<width>(), channels = args.input.c;
  const PixelRange range = block_pixels(args.columns, args.input.n * args.runs * args.run_columns);
  int64 run = range.begin + threadIdx.y;
  ChannelSums<width> sums;
  if (c < channels && run < range.end) {
    const ChannelNorm<width> norm(args.norm, c);
    GridWalk walk(run, blockDim.y, args.runs, args.run_columns);
    for (; run < range.end; run += blockDim.y, walk.advance())
      backward_run(args, norm, walk.image, walk.row, walk.column, c, sums);
  }
  write_block_sums(sums, c, channels, args.partial_sums, shared);
}

extern "C" __global__ void __launch_bounds__(kColumnThreads, 2)
    LADDERSEG_KERNEL(bn_relu_maxpool_forward)(const BnReluMaxpoolForwardArguments<Element, Real> args) {
  if (args.columns.wide)
    bn_relu_maxpool_forward<kWide>(args);
  else
    bn_relu_maxpool_forward<1>(args);
}

extern "C" __global__ void __launch_bounds__(kColumnThreads, 2)
    LADDERSEG_KERNEL(bn_relu_maxpool_backward)(const BnReluMaxpoolBackwardArguments<Element, Real> args) {
  __shared__ Real shared[kColumnThreads * kBackwardWide];
  if (args.columns.wide)
    bn_relu_maxpool_backward<kBackwardWide>(args, shared);
  else
    bn_relu_maxpool_backward<1>(args, shared);
}

}  // namespace ladderseg::cuda
