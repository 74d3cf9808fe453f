// Bilinear upsampling and its transpose: see ladderseg/upsample.h.
#include "bilinear.cuh"
#include "columns.cuh"
#include "grid_walk.cuh"
#include "upsample.h"

namespace ladderseg::cuda {

template <int width>
LADDERSEG_DEVICE void upsample_forward(const UpsampleForwardArguments<Element>& args) {
  const int64 c = column<width>();
  if (c >= args.coarse.c) return;
  const Axis vertical = make_axis(args.coarse.h, args.height), horizontal = make_axis(args.coarse.w, args.output.w);
  const PixelRange range = block_pixels(args.columns, args.output.pixels());
  GridWalk at(range.begin + threadIdx.y, blockDim.y, args.output.h, args.output.w);
  for (int64 p = range.begin + threadIdx.y; p < range.end; p += blockDim.y, at.advance()) {
    const Position y = position(vertical, static_cast<int>(args.first_row) + at.row),
                   x = position(horizontal, at.column);
    const int64 row = (at.image * args.coarse.h + y.lower) * args.coarse.w;
    const int64 row_below = (at.image * args.coarse.h + y.upper) * args.coarse.w;
    const auto a = load<width>(args.coarse.pixel(row + x.lower) + c);
    const auto b = load<width>(args.coarse.pixel(row + x.upper) + c);
    const auto d = load<width>(args.coarse.pixel(row_below + x.lower) + c);
    const auto e = load<width>(args.coarse.pixel(row_below + x.upper) + c);
    const Real left = Real(1) - x.weight, up = Real(1) - y.weight;
    Pack<width> result;
#pragma unroll
    for (int i = 0; i < width; ++i)
      result.values[i] = blend(blend(a.values[i], b.values[i], left, x.weight),
                               blend(d.values[i], e.values[i], left, x.weight), up, y.weight);
    store<width>(args.output.pixel(p) + c, result);
  }
}

// to += weight * pack
template <int width>
LADDERSEG_DEVICE void add_scaled(Real weight, const Pack<width>& pack, Pack<width>& to) {
#pragma unroll
  for (int i = 0; i < width; ++i) to.values[i] = fused_multiply_add(weight, pack.values[i], to.values[i]);
}

// Most fine columns that read a coarse column, at up to twice the size (at the map's edge; 4 elsewhere).
constexpr int kFewReaders = 5;

// A thread has a pack of channels of one coarse column. It goes down the fine rows, sums each over the fine columns
// that read the coarse column, and adds the sum to the two coarse rows that the fine row reads. So neighbouring threads
// of the block read a fine pixel twice, and another block reads only the rows at a block's upper edge again.
template <int width>
LADDERSEG_DEVICE void upsample_backward(const UpsampleBackwardArguments<Element>& args) {
  const FeatureMap<const Element>& fine = args.grad_output;
  const FeatureMap<Element>& coarse = args.grad_coarse;
  const int64 c = (static_cast<int64>(blockIdx.y) * blockDim.x + threadIdx.x) * width;
  const int64 strip = blockIdx.x / args.column_tiles, image = strip / args.row_tiles;
  const int column = static_cast<int>((blockIdx.x - strip * args.column_tiles) * blockDim.y + threadIdx.y);
  if (c >= coarse.c || column >= coarse.w) return;
  const Axis vertical = make_axis(coarse.h, fine.h), horizontal = make_axis(coarse.w, fine.w);
  const int first = static_cast<int>((strip - image * args.row_tiles) * args.rows_per_block);
  const int end = static_cast<int>(smaller(first + args.rows_per_block, coarse.h));
  const int x_begin = cell_begin(horizontal, column - 1), x_end = cell_begin(horizontal, column + 1);
  const int readers = x_end - x_begin;
  Real weights[kFewReaders];
#pragma unroll
  for (int i = 0; i < kFewReaders; ++i) weights[i] = weight_of(position(horizontal, x_begin + i), column);

  Pack<width> here = {}, below = {};  // the gradients of coarse rows `row` and `row + 1`
  int y = cell_begin(vertical, first - 1);
  for (int row = max(first - 1, 0); row < end; ++row) {
    for (; y < fine.h; ++y) {
      const Position at = position(vertical, y);
      if (at.lower != row) break;
      const Element* from = fine.pixel((image * fine.h + y) * fine.w + x_begin) + c;
      Pack<width> sum = {};
      if (readers <= kFewReaders) {
#pragma unroll
        for (int x = 0; x < kFewReaders; ++x) {
          if (x < readers) add_scaled(weights[x], load<width>(from + x * fine.pixel_stride), sum);
        }
      } else {
#pragma unroll 2
        for (int x = x_begin; x < x_end; ++x, from += fine.pixel_stride)
          add_scaled(weight_of(position(horizontal, x), column), load<width>(from), sum);
      }
      const Real up = weight_of(at, row), down = at.upper == row ? Real(0) : at.weight;
      add_scaled(up, sum, here);
      add_scaled(down, sum, below);
    }
    if (row >= first) store<width>(coarse.pixel((image * coarse.h + row) * coarse.w + column) + c, here);
    here = below;
    below = {};
  }
}

extern "C" __global__ void __launch_bounds__(kColumnThreads)
    LADDERSEG_KERNEL(upsample_forward)(const UpsampleForwardArguments<Element> args) {
  if (args.columns.wide)
    upsample_forward<kWide>(args);
  else
    upsample_forward<1>(args);
}

extern "C" __global__ void __launch_bounds__(kColumnThreads, 3)
    LADDERSEG_KERNEL(upsample_backward)(const UpsampleBackwardArguments<Element> args) {
  if (args.wide)
    upsample_backward<kWide>(args);
  else
    upsample_backward<1>(args);
}

}  // namespace ladderseg::cuda
