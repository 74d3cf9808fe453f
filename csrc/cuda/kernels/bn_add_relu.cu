// Batch norm, sum with a shortcut and rectification: see ladderseg/bn_add_relu.h.
#include "bn_add_relu.h"
#include "columns.cuh"

namespace ladderseg::cuda {

// The norm of the shortcut's channels from c on; where there is none, one that changes nothing.
template <int width>
LADDERSEG_DEVICE ChannelNorm<width> shortcut_norm(const Norm<Real>& norm, int64 c) {
  if (norm.mean) return ChannelNorm<width>(norm, c);
  ChannelNorm<width> identity;
#pragma unroll
  for (int i = 0; i < width; ++i) identity.scale[i] = Real(1);
  return identity;
}

template <int width>
LADDERSEG_DEVICE void bn_add_relu_forward(const BnAddReluForward<Element, Real>& args, const Columns& columns) {
  const int64 c = column<width>();
  if (c >= args.input.c) return;
  const ChannelNorm<width> norm(args.norm, c), of_shortcut = shortcut_norm<width>(args.shortcut_norm, c);
  const PixelRange range = block_pixels(columns, args.output.pixels());
  for (int64 p = range.begin + threadIdx.y; p < range.end; p += blockDim.y) {
    auto values = load<width>(args.input.pixel(p) + c);
    const auto shortcut = load<width>(args.shortcut.pixel(p) + c);
#pragma unroll
    for (int i = 0; i < width; ++i)
      values.values[i] = rectified(norm(values.values[i], i) + of_shortcut(shortcut.values[i], i));
    store<width>(args.output.pixel(p) + c, values);
  }
}

// The gradient at one pixel, corrected if that was deferred. The correction's vectors are read anew for every pixel:
// registers do not suffice for them.
template <int width>
LADDERSEG_DEVICE Pack<width> gradient_at(const Gradient<Element, Real>& gradient, int64 p, int64 c) {
  auto grad = load<width>(gradient.grad.pixel(p) + c);
  if (gradient.input.data) {
    const auto x = load<width>(gradient.input.pixel(p) + c);
    const auto mean = load_vector<width, true>(gradient.mean + c);
    const auto constant = load_vector<width, true>(gradient.constant + c);
    const auto slope = load_vector<width, true>(gradient.slope + c);
#pragma unroll
    for (int i = 0; i < width; ++i)
      grad.values[i] = grad.values[i] - constant.values[i] - slope.values[i] * (x.values[i] - mean.values[i]);
  }
  return grad;
}

template <int width>
LADDERSEG_DEVICE void bn_add_relu_backward(const BnAddReluBackwardArguments<Element, Real>& all, Real* shared) {
  const BnAddReluBackward<Element, Real>& args = all.op;
  const int64 c = column<width>(), channels = args.input.c;
  const bool has_shortcut_norm = args.shortcut_norm.mean != nullptr;
  ChannelSums<width> sums, shortcut_sums;
  if (c < channels) {
    Real mean[width], scale[width], shortcut_mean[width], shortcut_scale[width];
#pragma unroll
    for (int i = 0; i < width; ++i) {
      mean[i] = args.norm.mean[c + i];
      scale[i] = args.norm.scale[c + i];
      shortcut_mean[i] = has_shortcut_norm ? args.shortcut_norm.mean[c + i] : Real(0);
      shortcut_scale[i] = has_shortcut_norm ? args.shortcut_norm.scale[c + i] : Real(1);
    }
    const PixelRange range = block_pixels(all.columns, args.input.pixels());
    for (int64 p = range.begin + threadIdx.y; p < range.end; p += blockDim.y) {
      auto m = gradient_at<width>(args.grad_output, p, c);
      const auto output = load<width>(args.output.pixel(p) + c);
      const auto x = load<width>(args.input.pixel(p) + c);
#pragma unroll
      for (int i = 0; i < width; ++i) {
        m.values[i] = masked(output.values[i], m.values[i]);
        sums.masked[i] += m.values[i];
        sums.centred[i] += m.values[i] * (x.values[i] - mean[i]);
      }
      if (has_shortcut_norm) {
        const auto shortcut = load<width>(args.shortcut.pixel(p) + c);
#pragma unroll
        for (int i = 0; i < width; ++i)
          shortcut_sums.centred[i] += m.values[i] * (shortcut.values[i] - shortcut_mean[i]);
      }
      Pack<width> result = {};
      if (args.grad_input.data) {
#pragma unroll
        for (int i = 0; i < width; ++i) result.values[i] = scale[i] * m.values[i];
        store<width>(args.grad_input.pixel(p) + c, result);
      }
      if (args.grad_shortcut.data) {
        Element* const to = args.grad_shortcut.pixel(p) + c;
        result = {};
        if (args.accumulate) result = load<width>(to);
#pragma unroll
        for (int i = 0; i < width; ++i) result.values[i] += shortcut_scale[i] * m.values[i];
        store<width>(to, result);
      }
    }
  }
  write_block_sums(sums, c, channels, all.partial_sums, shared);
  if (has_shortcut_norm) {
#pragma unroll
    for (int i = 0; i < width; ++i) shortcut_sums.masked[i] = sums.masked[i];
    write_block_sums(shortcut_sums, c, channels, all.shortcut_partial_sums, shared);
  }
}

extern "C" __global__ void __launch_bounds__(kColumnThreads, 2)
    LADDERSEG_KERNEL(bn_add_relu_forward)(const InColumns<BnAddReluForward<Element, Real>> args) {
  if (args.columns.wide)
    bn_add_relu_forward<kWide>(args.op, args.columns);
  else
    bn_add_relu_forward<1>(args.op, args.columns);
}

extern "C" __global__ void __launch_bounds__(kColumnThreads, 2)
    LADDERSEG_KERNEL(bn_add_relu_backward)(const BnAddReluBackwardArguments<Element, Real> args) {
  __shared__ Real shared[kColumnThreads * kWide];
  if (args.columns.wide)
    bn_add_relu_backward<kWide>(args, shared);
  else
    bn_add_relu_backward<1>(args, shared);
}

}  // namespace ladderseg::cuda
