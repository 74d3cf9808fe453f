// Forward of BN-ReLU-conv3x3 by Winograd's filtering: see ladderseg/bn_relu_conv3x3.h and winograd.h.
#include <cstring>

#include "conv3x3_tile.h"
#include "operators.h"
#include "parallel.h"
#include "statistics.h"

namespace ladderseg {
namespace LADDERSEG_ISA {

// weight [K, C, 3, 3] transformed, as panels [K / columns][kPoints][C][columns], for the input channels `mine`.
template <class T>
LADDERSEG_INLINE void pack_weight(const T* weight, int64_t outputs, int64_t channels, Range mine, T* packed) {
  constexpr int64_t columns = RegisterBlock<T>::columns;
  for (int64_t k = 0; k < outputs; k += columns)
    for (int64_t c = mine.begin; c < mine.end; ++c)
      pack_transformed<false>(weight + (k * channels + c) * 9, channels * 9, smaller(columns, outputs - k), columns,
                              packed + (k * kPoints * channels + c * columns), channels * columns);
}

template <class T>
void bn_relu_conv3x3_forward(const BnReluConv3x3Forward<T>& args, int threads) {
  constexpr int64_t columns = RegisterBlock<T>::columns;
  const int64_t channels = args.input.c, outputs = args.output.c;
  const int64_t panels = round_up(outputs, columns) / columns;
  const bool want_statistics = args.output_mean != nullptr;
  const TileGrid grid(args.output.n, args.output.h, args.output.w, args.dilation);
  const NormalisedSource<T> source{args.input, args.norm};
  const int64_t block = block_tiles<T>(channels);
  const FeatureMap<const T> written{args.output.data, args.output.n, args.output.h,
                                    args.output.w,    outputs,       args.output.pixel_stride};
  ScratchLayout shared;
  const Region<T> packed = shared.add<T>(panels * columns * kPoints * channels);
  const Region<int64_t> counts = shared.add<int64_t>(threads);
  ScratchLayout own;
  const InputTiles<T> input(own, channels, block);
  const PanelProducts<T> products(own, block);
  const TilePixels pixels(own, block);
  const int64_t result_row = panels * columns;
  const Region<T> result = own.add<T>(4 * block * result_row);
  const StatisticsScratch<T> statistics(own, outputs);
  char* const scratch = reserve_scratch(shared.bytes + threads * own.bytes);
  const auto base_of = [&](int member) { return scratch + shared.bytes + member * own.bytes; };

  parallel(threads, [&](int member, int team) {
    char* const base = base_of(member);
    pack_weight(args.weight, outputs, channels, split(channels, member, team), packed.in(scratch));
    barrier(team);

    RunningStatistics running = statistics.start(base);
    const Range range = split(grid.count(), member, team);
    for (int64_t first = range.begin; first < range.end; first += block) {
      const int64_t count = smaller(block, range.end - first);
      input.fill(base, source, grid, args.input_first_row, first, count);
      pixels.fill(base, grid, 0, grid.height, first, count);
      const int64_t* pixel = pixels.first.in(base);
      for (int64_t panel = 0; panel < panels; ++panel) {
        const T* weight = packed.in(scratch) + panel * kPoints * channels * columns;
        products.run(base, input, count, weight, [&](int64_t part, int64_t parts) {
          prefetch_tiles(args.input, grid, args.input_first_row - args.dilation, 4, first + block,
                         smaller(block, range.end - first - block), panel * parts + part, panels * parts);
          prefetch_tiles(written, grid, 0, 2, first, count, panel * parts + part, panels * parts);
        });
        for (int64_t j = 0; j < columns; j += Simd<T>::lanes) {
          T* to = result.in(base) + panel * columns + j;
          for (int64_t t = 0; t < count; ++t) {
            typename Simd<T>::Vector y[4];
            transform_output(products.products.in(base) + t * columns + j, products.point_stride, y);
            for (int64_t i = 0; i < 4; ++i) {
              if (pixel[4 * t + i] < 0) continue;
              store(to, y[i]);
              to += result_row;
            }
          }
        }
      }
      T* const finished = result.in(base);
      int64_t rows = 0;
      for (int64_t i = 0; i < 4 * count; ++i) {
        if (pixel[i] < 0) continue;
        T* __restrict from = finished + rows++ * result_row;
        T* __restrict to = args.output.pixel(pixel[i]);
        if (args.accumulate)
          for (int64_t k = 0; k < outputs; ++k) from[k] += to[k];
        std::memcpy(to, from, outputs * sizeof(T));
      }
      if (want_statistics) statistics.add(running, base, finished, rows, result_row, outputs);
    }
    if (!want_statistics) return;
    counts.in(scratch)[member] = running.count;
    barrier(team);
    if (member == 0)
      finish_statistics(team, counts.in(scratch), base_of, statistics.mean, statistics.deviation, outputs,
                        args.output_mean, args.output_variance);
  });
}

LADDERSEG_INSTANTIATE(bn_relu_conv3x3_forward)

}  // namespace LADDERSEG_ISA
}  // namespace ladderseg
