// Batch norm, rectification and average pooling: see ladderseg/bn_relu_avgpool2.h.
#include "bn_relu_avgpool2.h"
#include "columns.cuh"
#include "grid_walk.cuh"

namespace ladderseg::cuda {

template <int width>
LADDERSEG_DEVICE void bn_relu_avgpool2_forward(const BnReluAvgpool2ForwardArguments<Element, Real>& args) {
  const int64 c = column<width>();
  const PixelRange range = block_pixels(args.columns, args.output.pixels());
  int64 p = range.begin + threadIdx.y;
  if (c >= args.input.c || p >= range.end) return;
  const ChannelNorm<width> norm(args.norm, c);
  const int64 right = args.input.pixel_stride, below = args.input.w * args.input.pixel_stride;
  GridWalk walk(p, blockDim.y, args.output.h, args.output.w);
  for (; p < range.end; p += blockDim.y, walk.advance()) {
    const Element* const from = args.input.at(walk.image, 2 * walk.row, 2 * walk.column) + c;
    const Pack<width> x[4] = {load<width>(from), load<width>(from + right), load<width>(from + below),
                              load<width>(from + below + right)};
    Pack<width> result;
#pragma unroll
    for (int i = 0; i < width; ++i) {
      Real y[4];
#pragma unroll
      for (int j = 0; j < 4; ++j) y[j] = rectified(norm(x[j].values[i], i));
      result.values[i] = ((y[0] + y[1]) + (y[2] + y[3])) * Real(0.25);
    }
    store<width>(args.output.pixel(p) + c, result);
  }
}

// Two pixels side by side, whose rectified values have the gradient `grad`.
template <int width>
LADDERSEG_DEVICE void backward_pair(const BnReluAvgpool2BackwardArguments<Element, Real>& args, const Element* from,
                                    Element* to, const Pack<width>& grad, const ChannelNorm<width>& norm,
                                    ChannelSums<width>& sums) {
  const Pack<width> x[2] = {load<width>(from), load<width>(from + args.input.pixel_stride)};
  Pack<width> result[2] = {};
  if (args.accumulate) {
    result[0] = load<width>(to);
    result[1] = load<width>(to + args.grad_input.pixel_stride);
  }
#pragma unroll
  for (int j = 0; j < 2; ++j) {
#pragma unroll
    for (int i = 0; i < width; ++i) result[j].values[i] += sums.add(norm, i, x[j].values[i], grad.values[i]);
    store<width>(to + j * args.grad_input.pixel_stride, result[j]);
  }
}

template <int width>
LADDERSEG_DEVICE void bn_relu_avgpool2_backward(const BnReluAvgpool2BackwardArguments<Element, Real>& args,
                                                Real* shared) {
  const int64 c = column<width>(), channels = args.input.c;
  const PixelRange range = block_pixels(args.columns, args.input.n * args.cell_rows * args.cell_columns);
  int64 cell = range.begin + threadIdx.y;
  ChannelSums<width> sums;
  if (c < channels && cell < range.end) {
    const ChannelNorm<width> norm(args.norm, c);
    const int64 below = args.input.w * args.input.pixel_stride;
    const int64 right_grad = args.grad_input.pixel_stride, below_grad = args.grad_input.w * right_grad;
    GridWalk walk(cell, blockDim.y, args.cell_rows, args.cell_columns);
    for (; cell < range.end; cell += blockDim.y, walk.advance()) {
      const int64 y = 2 * static_cast<int64>(walk.row), x = 2 * static_cast<int64>(walk.column);
      Element* const to = args.grad_input.at(walk.image, y, x) + c;
      if (walk.row < args.grad_output.h && walk.column < args.grad_output.w) {
        const Element* const from = args.input.at(walk.image, y, x) + c;
        auto grad = load<width>(args.grad_output.at(walk.image, walk.row, walk.column) + c);
#pragma unroll
        for (int i = 0; i < width; ++i) grad.values[i] *= Real(0.25);
        backward_pair(args, from, to, grad, norm, sums);
        backward_pair(args, from + below, to + below_grad, grad, norm, sums);
      } else {  // an odd last row or column, which is not pooled but must be overwritten
        const bool has_right = x + 1 < args.input.w, has_below = y + 1 < args.input.h;
        const Pack<width> zeros = {};
        store<width>(to, zeros);
        if (has_right) store<width>(to + right_grad, zeros);
        if (has_below) store<width>(to + below_grad, zeros);
        if (has_right && has_below) store<width>(to + below_grad + right_grad, zeros);
      }
    }
  }
  write_block_sums(sums, c, channels, args.partial_sums, shared);
}

extern "C" __global__ void __launch_bounds__(kColumnThreads)
    LADDERSEG_KERNEL(bn_relu_avgpool2_forward)(const BnReluAvgpool2ForwardArguments<Element, Real> args) {
  if (args.columns.wide)
    bn_relu_avgpool2_forward<kWide>(args);
  else
    bn_relu_avgpool2_forward<1>(args);
}

// To a multiprocessor. On sm_120 two of bfloat16 would spill registers.
#if defined(LADDERSEG_ELEMENT_bfloat16) && __CUDA_ARCH__ >= 1200
constexpr int kBackwardBlocks = 1;
#else
constexpr int kBackwardBlocks = 2;
#endif

extern "C" __global__ void __launch_bounds__(kColumnThreads, kBackwardBlocks)
    LADDERSEG_KERNEL(bn_relu_avgpool2_backward)(const BnReluAvgpool2BackwardArguments<Element, Real> args) {
  __shared__ Real shared[kColumnThreads * kWide];
  if (args.columns.wide)
    bn_relu_avgpool2_backward<kWide>(args, shared);
  else
    bn_relu_avgpool2_backward<1>(args, shared);
}

}  // namespace ladderseg::cuda
