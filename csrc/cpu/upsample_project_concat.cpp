#include <cstring>

#include "bilinear.h"
#include "conv1x1_tile.h"
#include "operators.h"
#include "parallel.h"
#include "statistics.h"

namespace ladderseg {
namespace LADDERSEG_ISA {

// One upsampled pixel of D channels, blended from its four coarse neighbours.
template <class T>
LADDERSEG_INLINE void upsample_pixel(const FeatureMap<const T>& coarse, int64_t image, int64_t y, int64_t x,
                                     const BilinearAxis<T>& vertical, const BilinearAxis<T>& horizontal,
                                     T* __restrict to) {
  const T* __restrict a = coarse.at(image, vertical.lower[y], horizontal.lower[x]);
  const T* __restrict b = coarse.at(image, vertical.lower[y], horizontal.upper[x]);
  const T* __restrict c = coarse.at(image, vertical.upper[y], horizontal.lower[x]);
  const T* __restrict d = coarse.at(image, vertical.upper[y], horizontal.upper[x]);
  const T down = vertical.weight[y], right = horizontal.weight[x];
  const T up = T(1) - down, left = T(1) - right;
  for (int64_t i = 0; i < coarse.c; ++i)
    to[i] = up * (left * a[i] + right * b[i]) + down * (left * c[i] + right * d[i]);
}

template <class T>
void upsample_project_concat_forward(const UpsampleProjectConcatForward<T>& args, int threads) {
  const int64_t channels = args.skip.c, upsampled = args.coarse.c, projected = args.output.c - upsampled;
  const int64_t height = args.skip.h, width = args.skip.w;
  const int64_t panels = round_up<int64_t>(projected, RegisterBlock<T>::columns) / RegisterBlock<T>::columns;
  const bool want_statistics = args.output_mean != nullptr;
  ScratchLayout shared;
  const Region<T> packed = shared.add<T>(panels * RegisterBlock<T>::columns * channels);
  const Region<int64_t> counts = shared.add<int64_t>(threads);
  const BilinearAxisScratch<T> vertical_scratch(shared, height), horizontal_scratch(shared, width);
  ScratchLayout own;
  const ProjectionTile<T> tile(own, projected);
  const StatisticsScratch<T> statistics(own, args.output.c);
  char* const scratch = reserve_scratch(shared.bytes + threads * own.bytes);
  const auto base_of = [&](int member) { return scratch + shared.bytes + member * own.bytes; };
  const BilinearAxis<T> vertical = vertical_scratch.fill(scratch, args.coarse.h, height);
  const BilinearAxis<T> horizontal = horizontal_scratch.fill(scratch, args.coarse.w, width);

  parallel(threads, [&](int member, int team) {
    char* const base = base_of(member);
    const Range mine = split(panels, member, team);
    pack_transposed(args.weight, projected, channels, mine.begin, mine.end, packed.in(scratch));
    barrier(team);

    RunningStatistics running = statistics.start(base);
    const Range range = split(args.skip.pixels(), member, team, RegisterBlock<T>::rows);
    for (int64_t p = range.begin; p < range.end; p += kTilePixels) {
      const int64_t pixels = smaller(kTilePixels, range.end - p);
      tile.run(base, args.skip.pixel(p), args.skip.pixel_stride, pixels, channels, projected, args.norm,
               packed.in(scratch));
      for (int64_t i = 0; i < pixels; ++i) {
        const int64_t x = (p + i) % width, y = (p + i) / width % height, image = (p + i) / (width * height);
        T* output = args.output.pixel(p + i);
        upsample_pixel(args.coarse, image, y, x, vertical, horizontal, output);
        std::memcpy(output + upsampled, tile.product.in(base) + i * tile.product_row, projected * sizeof(T));
      }
      if (want_statistics)
        statistics.add(running, base, args.output.pixel(p), pixels, args.output.pixel_stride, args.output.c);
    }
    if (!want_statistics) return;
    counts.in(scratch)[member] = running.count;
    barrier(team);
    if (member == 0)
      finish_statistics(team, counts.in(scratch), base_of, statistics.mean, statistics.deviation, args.output.c,
                        args.output_mean, args.output_variance);
  });
}

// Each member owns rows of the coarse gradient. For one coarse row the fine rows that read it are blended into a line
// of fine pixels, and that line is gathered into the coarse pixels: every sum has one order.
template <class T>
void upsample_backward(const UpsampleBackward<T>& args, int threads) {
  const FeatureMap<const T>& fine = args.grad_output;
  const FeatureMap<T>& coarse = args.grad_coarse;
  const int64_t channels = coarse.c;
  ScratchLayout shared;
  const BilinearAxisScratch<T> vertical_scratch(shared, fine.h), horizontal_scratch(shared, fine.w);
  ScratchLayout own;
  const Region<T> line = own.add<T>(fine.w * channels);
  char* const scratch = reserve_scratch(shared.bytes + threads * own.bytes);
  const BilinearAxis<T> vertical = vertical_scratch.fill(scratch, coarse.h, fine.h);
  const BilinearAxis<T> horizontal = horizontal_scratch.fill(scratch, coarse.w, fine.w);

  parallel(threads, [&](int member, int team) {
    T* const sum = line.in(scratch + shared.bytes + member * own.bytes);
    const Range rows = split(coarse.n * coarse.h, member, team);
    for (int64_t row = rows.begin; row < rows.end; ++row) {
      const int64_t image = row / coarse.h, i = row % coarse.h;
      std::memset(sum, 0, fine.w * channels * sizeof(T));
      for (int64_t y = 0; y < fine.h; ++y) {
        const T weight = (vertical.lower[y] == i ? T(1) - vertical.weight[y] : T(0)) +
                         (vertical.upper[y] == i ? vertical.weight[y] : T(0));
        if (vertical.lower[y] != i && vertical.upper[y] != i) continue;
        for (int64_t x = 0; x < fine.w; ++x)
          add_scaled(channels, weight, fine.at(image, y, x), sum + x * channels);
      }
      for (int64_t x = 0; x < coarse.w; ++x) std::memset(coarse.at(image, i, x), 0, channels * sizeof(T));
      for (int64_t x = 0; x < fine.w; ++x) {
        const T right = horizontal.weight[x];
        add_scaled(channels, T(1) - right, sum + x * channels, coarse.at(image, i, horizontal.lower[x]));
        add_scaled(channels, right, sum + x * channels, coarse.at(image, i, horizontal.upper[x]));
      }
    }
  });
}

LADDERSEG_INSTANTIATE(upsample_project_concat_forward, UpsampleProjectConcatForward)
LADDERSEG_INSTANTIATE(upsample_backward, UpsampleBackward)

}  // namespace LADDERSEG_ISA
}  // namespace ladderseg
