// Forward of BN-ReLU-conv3x3 by Winograd's filtering: see ladderseg/bn_relu_conv3x3.h and winograd.h.
#include "conv3x3_tile.h"
#include "operators.h"
#include "parallel.h"
#include "statistics.h"

namespace ladderseg {
namespace LADDERSEG_ISA {
namespace {

// weight [K, C, 3, 3] transformed, as panels [K / columns][kPoints][weight_stride] of [C][columns], for the input
// channels `mine`.
template <class Filter, class T>
LADDERSEG_INLINE void pack_weight(const RealOf<T>* weight, int64_t outputs, int64_t channels, Range mine, T* packed) {
  constexpr int64_t columns = RegisterBlock<T>::columns;
  const int64_t stride = PanelProducts<T, Filter>::weight_stride(channels);
  for (int64_t k = 0; k < outputs; k += columns)
    pack_transformed<Filter, false>(weight + k * channels * 9, 9, channels, channels * 9, smaller(columns, outputs - k),
                                    mine, packed + k / columns * kPoints<Filter> * stride, stride);
}

template <class Filter, class T>
void forward(const BnReluConv3x3Forward<T>& args, const TileGrid& grid, int threads) {
  constexpr int64_t columns = RegisterBlock<T>::columns, tile_pixels = kTilePixels<Filter>;
  const int64_t channels = args.input.c, outputs = args.output.c;
  const int64_t panels = round_up(outputs, columns) / columns;
  const bool want_statistics = args.output_mean != nullptr;
  const NormalisedSource<T> source{args.input, args.norm};
  const int64_t block = block_tiles<T, Filter>(channels);
  ScratchLayout shared;
  const int64_t panel_size = kPoints<Filter> * PanelProducts<T, Filter>::weight_stride(channels);
  const Region<T> packed = shared.add<T>(panels * panel_size);
  const Region<int64_t> counts = shared.add<int64_t>(threads);
  ScratchLayout own;
  const InputTiles<T, Filter> input(own, channels, block);
  const PanelProducts<T, Filter> products(own, block);
  const TilePixels<Filter> pixels(own, block);
  const NextPixels<Filter> next(own, block);
  const Region<RealOf<T>> result = own.add<RealOf<T>>(tile_pixels * block * columns);
  const StatisticsScratch<T> statistics(own, outputs);
  char* const scratch = reserve_scratch(shared.bytes + threads * own.bytes);
  const auto base_of = [&](int member) { return scratch + shared.bytes + member * own.bytes; };

  parallel(threads, [&](int member, int team) {
    char* const base = base_of(member);
    pack_weight<Filter>(args.weight, outputs, channels, split(channels, member, team, kPair<T>), packed.in(scratch));
    barrier(team);

    RunningStatistics running = statistics.start(base);
    const Range range = split(grid.count(), member, team);
    for (int64_t first = range.begin; first < range.end; first += block) {
      const int64_t count = smaller(block, range.end - first);
      input.fill(base, source, grid, args.input_first_row, first, count, 0, channels);
      pixels.fill(base, grid, 0, grid.height, first, count);
      const int64_t next_pixels = next.fill(base, args.input, grid, args.input_first_row, first + count,
                                            smaller(block, range.end - first - count));
      const int64_t* pixel = pixels.first.in(base);
      RealOf<T>* const finished = result.in(base);
      int64_t rows = 0;
      for (int64_t panel = 0; panel < panels; ++panel) {
        const T* weight = packed.in(scratch) + panel * panel_size;
        const auto written = channel_range(args.output, panel * columns, columns);
        products.run(base, input, count, weight, [&](int64_t part, int64_t parts) {
          prefetch_pixels(args.input, next.numbers.in(base), next_pixels, panel * parts + part, panels * parts);
          prefetch_pixels(written, pixel, tile_pixels * count, part, parts);
        });
        for (int64_t j = 0; j < columns; j += Simd<T>::lanes) {
          RealOf<T>* to = finished + j;
          for (int64_t t = 0; t < count; ++t) {
            typename Simd<T>::Vector y[tile_pixels];
            transform_output<Filter>(products.products.in(base) + t * columns + j, products.point_stride, y);
            for (int64_t i = 0; i < tile_pixels; ++i) {
              if (pixel[tile_pixels * t + i] < 0) continue;
              store(to, y[i]);
              to += columns;
            }
          }
        }
        rows = 0;
        for (int64_t i = 0; i < tile_pixels * count; ++i) {
          if (pixel[i] < 0) continue;
          RealOf<T>* const from = finished + rows++ * columns;
          T* const to = args.output.pixel(pixel[i]) + panel * columns;
          if (args.accumulate) add_scaled(written.c, RealOf<T>(1), to, from);
          copy_elements(from, written.c, to);
        }
        if (want_statistics && rows > 0) statistics.add_part(base, finished, rows, columns, panel * columns, written.c);
      }
      if (want_statistics && rows > 0) statistics.merge_tile(running, base, rows, outputs);
    }
    if (!want_statistics) return;
    counts.in(scratch)[member] = running.count;
    barrier(team);
    if (member == 0)
      finish_statistics(team, counts.in(scratch), base_of, statistics.mean, statistics.deviation, outputs,
                        args.output_mean, args.output_variance);
  });
}

}  // namespace

template <class T>
void bn_relu_conv3x3_forward(const BnReluConv3x3Forward<T>& args, int threads) {
  const auto& out = args.output;
  const TileGrid grid = conv3x3_tiles(out.n, out.h, out.w, args.dilation, args.input.c, out.c, rounds<T>);
  with_filter(grid, [&](auto filter) { forward<decltype(filter)>(args, grid, threads); });
}

LADDERSEG_INSTANTIATE(bn_relu_conv3x3_forward)

}  // namespace LADDERSEG_ISA
}  // namespace ladderseg
