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

// The same number, of which the compiler knows nothing. From one that it knows to grow by a step, it makes an address
// for each of many maps, and keeps them in registers from pixel to pixel.
LADDERSEG_DEVICE int64 opaque(int64 number) {
  asm volatile("" : "+l"(number));
  return number;
}

// Registers do not suffice for the vectors that few units have, those of a deferred correction and of a shortcut's
// norm. The backward reads them anew for every pixel, this many channels at a time.
template <int width>
constexpr int kPiece = width * sizeof(Real) < 16 ? width : 16 / sizeof(Real);

// The gradient at one pixel, corrected if that was deferred.
template <int width>
LADDERSEG_DEVICE Pack<width> gradient_at(const Gradient<Element, Real>& gradient, int64 p, int64 c) {
  auto grad = load<width>(gradient.grad.pixel(p) + c);
  if (!gradient.input.data) return grad;
  const auto x = load<width>(gradient.input.pixel(p) + c);
#pragma unroll
  for (int first = 0; first < width; first += kPiece<width>) {
    const auto mean = load_vector<kPiece<width>, true>(gradient.mean + c + first);
    const auto constant = load_vector<kPiece<width>, true>(gradient.constant + c + first);
    const auto slope = load_vector<kPiece<width>, true>(gradient.slope + c + first);
#pragma unroll
    for (int i = 0; i < kPiece<width>; ++i) {
      Real& value = grad.values[first + i];
      value = value - constant.values[i] - slope.values[i] * (x.values[first + i] - mean.values[i]);
    }
  }
  return grad;
}

// Adds m * (shortcut - mean) to `centred`, and scales m: the gradient of a shortcut with a norm.
template <int width>
LADDERSEG_DEVICE void through_shortcut_norm(const Norm<Real>& norm, int64 c, const Element* shortcut, Pack<width>& m,
                                            Real (&centred)[width]) {
  const auto values = load<width>(shortcut);
#pragma unroll
  for (int first = 0; first < width; first += kPiece<width>) {
    const auto mean = load_vector<kPiece<width>, true>(norm.mean + c + first);
    const auto scale = load_vector<kPiece<width>, true>(norm.scale + c + first);
#pragma unroll
    for (int i = 0; i < kPiece<width>; ++i) {
      centred[first + i] += m.values[first + i] * (values.values[first + i] - mean.values[i]);
      m.values[first + i] *= scale.values[i];
    }
  }
}

template <int width>
LADDERSEG_DEVICE void bn_add_relu_backward(const BnAddReluBackwardArguments<Element, Real>& all, Real* shared) {
  const BnAddReluBackward<Element, Real>& args = all.op;
  const int64 c = column<width>(), channels = args.input.c;
  const bool has_shortcut_norm = args.shortcut_norm.mean != nullptr;
  ChannelSums<width> sums, shortcut_sums;
  if (c < channels) {
    const auto mean = load_vector<width>(args.norm.mean + c), scale = load_vector<width>(args.norm.scale + c);
    const PixelRange range = block_pixels(all.columns, args.input.pixels());
    for (int64 next = range.begin + threadIdx.y; next < range.end; next += blockDim.y) {
      const int64 p = opaque(next);
      auto m = gradient_at<width>(args.grad_output, p, c);
      const auto output = load<width>(args.output.pixel(p) + c);
      const auto x = load<width>(args.input.pixel(p) + c);
#pragma unroll
      for (int i = 0; i < width; ++i) {
        m.values[i] = masked(output.values[i], m.values[i]);
        sums.masked[i] += m.values[i];
        sums.centred[i] += m.values[i] * (x.values[i] - mean.values[i]);
      }
      if (args.grad_input.data) {
        Pack<width> result;
#pragma unroll
        for (int i = 0; i < width; ++i) result.values[i] = scale.values[i] * m.values[i];
        store<width>(args.grad_input.pixel(p) + c, result);
      }
      if (has_shortcut_norm)
        through_shortcut_norm(args.shortcut_norm, c, args.shortcut.pixel(p) + c, m, shortcut_sums.centred);
      if (args.grad_shortcut.data) {
        Element* const to = args.grad_shortcut.pixel(p) + c;
        if (args.accumulate) {
          const auto before = load<width>(to);
#pragma unroll
          for (int i = 0; i < width; ++i) m.values[i] += before.values[i];
        }
        store<width>(to, m);
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
