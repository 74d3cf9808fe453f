// Batch norm and rectification: see ladderseg/bn_relu.h.
#include "bn_relu.h"
#include "columns.cuh"

namespace ladderseg::cuda {

template <int width>
LADDERSEG_DEVICE void bn_relu_forward(const BnReluForwardArguments<Element, Real>& args) {
  const int64 c = column<width>();
  if (c >= args.input.c) return;
  const ChannelNorm<width> norm(args.norm, c);
  const PixelRange range = block_pixels(args.columns, args.input.pixels());
  for (int64 p = range.begin + threadIdx.y; p < range.end; p += blockDim.y) {
    auto values = load<width>(args.input.pixel(p) + c);
#pragma unroll
    for (int i = 0; i < width; ++i) values.values[i] = rectified(norm(values.values[i], i));
    store<width>(args.output.pixel(p) + c, values);
  }
}

template <int width>
LADDERSEG_DEVICE void bn_relu_backward(const BnReluBackwardArguments<Element, Real>& args, Real* shared) {
  const int64 c = column<width>(), channels = args.input.c;
  ChannelSums<width> sums;
  if (c < channels) {
    const ChannelNorm<width> norm(args.norm, c);
    const PixelRange range = block_pixels(args.columns, args.input.pixels());
    for (int64 p = range.begin + threadIdx.y; p < range.end; p += blockDim.y) {
      const auto grad = load<width>(args.grad_output.pixel(p) + c);
      const auto x = load<width>(args.input.pixel(p) + c);
      Element* const to = args.grad_input.pixel(p) + c;
      Pack<width> result = {};
      if (args.accumulate) result = load<width>(to);
#pragma unroll
      for (int i = 0; i < width; ++i) result.values[i] += sums.add(norm, i, x.values[i], grad.values[i]);
      store<width>(to, result);
    }
  }
  write_block_sums(sums, c, channels, args.partial_sums, shared);
}

// Four blocks per multiprocessor: without this bound some assemblers aim for more, and spill.
extern "C" __global__ void __launch_bounds__(kColumnThreads, 4)
    LADDERSEG_KERNEL(bn_relu_forward)(const BnReluForwardArguments<Element, Real> args) {
  if (args.columns.wide)
    bn_relu_forward<kWide>(args);
  else
    bn_relu_forward<1>(args);
}

extern "C" __global__ void __launch_bounds__(kColumnThreads)
    LADDERSEG_KERNEL(bn_relu_backward)(const BnReluBackwardArguments<Element, Real> args) {
  __shared__ Real shared[kColumnThreads * kWide];
  if (args.columns.wide)
    bn_relu_backward<kWide>(args, shared);
  else
    bn_relu_backward<1>(args, shared);
}

}  // namespace ladderseg::cuda
