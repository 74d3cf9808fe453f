// Batch norm and rectification of patches: see ladderseg/bn_relu_patches.h.
#include "bn_relu_patches.h"
#include "columns.cuh"
#include "grid_walk.cuh"

namespace ladderseg::cuda {

LADDERSEG_DEVICE int64 clamped(int64 value, int64 end) { return value < 0 ? 0 : value >= end ? end - 1 : value; }

template <int width>
LADDERSEG_DEVICE void bn_relu_patches_forward(const BnReluPatchesForward<Element, Real>& args, const Columns& columns) {
  const int64 c = column<width>(), channels = args.input.c;
  const PixelRange range = block_pixels(columns, args.output.pixels());
  int64 p = range.begin + threadIdx.y;
  if (c >= channels || p >= range.end) return;
  const ChannelNorm<width> norm(args.norm, c);
  GridWalk walk(p, blockDim.y, args.output.h, args.output.w);
  for (; p < range.end; p += blockDim.y, walk.advance()) {
    Element* to = args.output.pixel(p) + c;
#pragma unroll 1
    for (int row = 0; row < 3; ++row) {
      const int64 y = args.first_row + 2 * static_cast<int64>(walk.row) + row - 1;
      const Element* const from = args.input.at(walk.image, clamped(y, args.input.h), 0) + c;
      // Positions outside the map are read at its edge, and then zero: so the three reads wait for nothing.
      Pack<width> taps[3];
      bool inside[3];
#pragma unroll
      for (int j = 0; j < 3; ++j) {
        const int64 x = 2 * static_cast<int64>(walk.column) + j - 1, there = clamped(x, args.input.w);
        inside[j] = x == there && y >= 0 && y < args.input.h;
        taps[j] = load<width>(from + there * args.input.pixel_stride);
      }
#pragma unroll
      for (int j = 0; j < 3; ++j, to += channels) {
#pragma unroll
        for (int i = 0; i < width; ++i) taps[j].values[i] = inside[j] ? rectified(norm(taps[j].values[i], i)) : Real(0);
        store<width>(to, taps[j]);
      }
    }
  }
}

template <int width>
LADDERSEG_DEVICE void add(Pack<width>& to, const Element* from) {
  const auto values = load<width>(from);
#pragma unroll
  for (int i = 0; i < width; ++i) to.values[i] += values.values[i];
}

// The gradients of a cell's rectified pixels, in the order of rows: at most four patches contain one of them.
template <int width>
LADDERSEG_DEVICE void gather(const FeatureMap<const Element>& grads, int64 channels, int64 image, int64 row,
                             int64 column, int64 c, Pack<width> (&cell)[4]) {
  const bool here = row >= 0 && row < grads.h, below = row + 1 >= 0 && row + 1 < grads.h;
  const bool right = column + 1 < grads.w;
  const Element* const patch = grads.at(image, row, column) + c;
  const Element* const next = patch + grads.w * grads.pixel_stride;
  if (here) {
    add(cell[0], patch + 4 * channels);
    add(cell[1], patch + 5 * channels);
    add(cell[2], patch + 7 * channels);
    add(cell[3], patch + 8 * channels);
  }
  if (here && right) {
    add(cell[1], patch + grads.pixel_stride + 3 * channels);
    add(cell[3], patch + grads.pixel_stride + 6 * channels);
  }
  if (below) {
    add(cell[2], next + channels);
    add(cell[3], next + 2 * channels);
  }
  if (below && right) add(cell[3], next + grads.pixel_stride);
}

template <int width>
LADDERSEG_DEVICE void bn_relu_patches_backward(const BnReluPatchesBackwardArguments<Element, Real>& all, Real* shared) {
  const BnReluPatchesBackward<Element, Real>& args = all.op;
  const int64 c = column<width>(), channels = args.input.c;
  const PixelRange range = block_pixels(all.columns, args.input.n * all.cell_rows * all.cell_columns);
  int64 index = range.begin + threadIdx.y;
  ChannelSums<width> sums;
  if (c < channels && index < range.end) {
    const ChannelNorm<width> norm(args.norm, c);
    GridWalk walk(index, blockDim.y, all.cell_rows, all.cell_columns);
    for (; index < range.end; index += blockDim.y, walk.advance()) {
      const int64 patch_row = all.first_cell_row + walk.row;
      const int64 row = args.first_row + 2 * patch_row, column = 2 * static_cast<int64>(walk.column);
      Pack<width> cell[4] = {};
      gather(args.grad_output, channels, walk.image, patch_row, walk.column, c, cell);
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const int64 y = row + j / 2, x = column + j % 2;
        if (y < 0 || y >= args.input.h || x >= args.input.w) continue;
        const auto values = load<width>(args.input.at(walk.image, y, x) + c);
        Element* const to = args.grad_input.at(walk.image, y, x) + c;
        Pack<width> result = {};
        if (args.add_first_row && y == 0) result = load<width>(to);
#pragma unroll
        for (int i = 0; i < width; ++i) result.values[i] += sums.add(norm, i, values.values[i], cell[j].values[i]);
        store<width>(to, result);
      }
    }
  }
  write_block_sums(sums, c, channels, all.partial_sums, shared);
}

extern "C" __global__ void __launch_bounds__(kColumnThreads, 2)
    LADDERSEG_KERNEL(bn_relu_patches_forward)(const InColumns<BnReluPatchesForward<Element, Real>> args) {
  if (args.columns.wide)
    bn_relu_patches_forward<kWide>(args.op, args.columns);
  else
    bn_relu_patches_forward<1>(args.op, args.columns);
}

extern "C" __global__ void __launch_bounds__(kColumnThreads, 2)
    LADDERSEG_KERNEL(bn_relu_patches_backward)(const BnReluPatchesBackwardArguments<Element, Real> args) {
  __shared__ Real shared[kColumnThreads * kWide];
  if (args.columns.wide)
    bn_relu_patches_backward<kWide>(args, shared);
  else
    bn_relu_patches_backward<1>(args, shared);
}

}  // namespace ladderseg::cuda
