// Running mean and sum of squared deviations per channel, merged by Chan's formula in double.
#pragma once

#include <cstring>

#include "scratch.h"
#include "simd.h"

namespace ladderseg {
namespace LADDERSEG_ISA {

// Per-channel statistics of `count` positions seen so far.
struct RunningStatistics {
  int64_t count;
  double* mean;       // [channels]
  double* deviation;  // [channels], sum of (x - mean)^2
};

// Merges the statistics of `count` more positions.
LADDERSEG_INLINE void merge(RunningStatistics& into, int64_t channels, int64_t count, const double* mean,
                            const double* deviation) {
  if (count == 0) return;
  const double total = static_cast<double>(into.count + count);
  const double share = static_cast<double>(count) / total;
  const double weight = static_cast<double>(into.count) * share;
  for_each_channel_vector<double>(channels, [&](int64_t c, auto zero) {
    using V = decltype(zero);
    const V other = load_as<V>(mean + c), squares = load_as<V>(deviation + c);
    if (into.count == 0) {
      store_as<V>(into.mean + c, other);
      store_as<V>(into.deviation + c, squares);
    } else {
      const V delta = other - load_as<V>(into.mean + c);
      store_as<V>(into.mean + c, load_as<V>(into.mean + c) + delta * share);
      store_as<V>(into.deviation + c, load_as<V>(into.deviation + c) + (squares + delta * delta * weight));
    }
  });
  into.count += count;
}

// Mean and sum of squared deviations of a tile in cache, in two passes. The sums are in the type of arithmetic because
// the tile has few rows. The second pass takes deviations d from a rounded mean; the sum of the d corrects the
// rounding.
template <class T, class Real = RealOf<T>>
LADDERSEG_INLINE void tile_statistics(const T* tile, int64_t rows, int64_t row_stride, int64_t channels,
                                      Real* __restrict centre, Real* __restrict sum, Real* __restrict square,
                                      double* __restrict mean, double* __restrict deviation) {
  std::memset(centre, 0, channels * sizeof(Real));
  std::memset(sum, 0, channels * sizeof(Real));
  std::memset(square, 0, channels * sizeof(Real));
  int64_t r = 0;
  for (; r + 4 <= rows; r += 4) {
    const T* at = tile + r * row_stride;
    for_each_channel_vector<T>(channels, [&](int64_t c, auto zero) {
      using V = decltype(zero);
      const V first = load_as<V>(at + c) + load_as<V>(at + row_stride + c);
      const V second = load_as<V>(at + 2 * row_stride + c) + load_as<V>(at + 3 * row_stride + c);
      store_as<V>(centre + c, load_as<V>(centre + c) + (first + second));
    });
  }
  for (; r < rows; ++r) add_scaled(channels, Real(1), tile + r * row_stride, centre);
  const Real share = Real(1) / static_cast<Real>(rows);
  for_each_channel_vector<Real>(channels, [&](int64_t c, auto zero) {
    using V = decltype(zero);
    store_as<V>(centre + c, load_as<V>(centre + c) * share);
  });
  for (r = 0; r + 4 <= rows; r += 4) {
    const T* at = tile + r * row_stride;
    for_each_channel_vector<T>(channels, [&](int64_t c, auto zero) {
      using V = decltype(zero);
      const V middle = load_as<V>(centre + c);
      const V d0 = load_as<V>(at + c) - middle, d1 = load_as<V>(at + row_stride + c) - middle;
      const V d2 = load_as<V>(at + 2 * row_stride + c) - middle, d3 = load_as<V>(at + 3 * row_stride + c) - middle;
      store_as<V>(sum + c, load_as<V>(sum + c) + ((d0 + d1) + (d2 + d3)));
      store_as<V>(square + c, load_as<V>(square + c) + ((d0 * d0 + d1 * d1) + (d2 * d2 + d3 * d3)));
    });
  }
  for (; r < rows; ++r)
    for_each_channel_vector<T>(channels, [&](int64_t c, auto zero) {
      using V = decltype(zero);
      const V d = load_as<V>(tile + r * row_stride + c) - load_as<V>(centre + c);
      store_as<V>(sum + c, load_as<V>(sum + c) + d);
      store_as<V>(square + c, load_as<V>(square + c) + d * d);
    });
  const double count = static_cast<double>(rows);
  for_each_channel_vector<double>(channels, [&](int64_t c, auto zero) {
    using V = decltype(zero);
    V shift = load_widened<V>(sum + c) / count;
    store_as<V>(deviation + c, load_widened<V>(square + c) - count * shift * shift);
    // An infinite mean makes the deviations NaN; the mean stays infinite.
    shift = shift == shift ? shift : zero;
    store_as<V>(mean + c, load_widened<V>(centre + c) + shift);
  });
}

// One member's working memory for the statistics of its tiles, which are of T or of its type of arithmetic, and its
// result.
template <class T>
struct StatisticsScratch {
  Region<double> mean, deviation, tile_mean, tile_deviation;
  using Real = RealOf<T>;
  Region<Real> centre, sum, square;

  LADDERSEG_INLINE StatisticsScratch(ScratchLayout& layout, int64_t channels)
      : mean(layout.add<double>(channels)),
        deviation(layout.add<double>(channels)),
        tile_mean(layout.add<double>(channels)),
        tile_deviation(layout.add<double>(channels)),
        centre(layout.add<Real>(channels)),
        sum(layout.add<Real>(channels)),
        square(layout.add<Real>(channels)) {}

  LADDERSEG_INLINE RunningStatistics start(char* base) const { return {0, mean.in(base), deviation.in(base)}; }

  // The statistics of channels [first, first + channels) of a tile, which begins at the first of them; then merge_tile,
  // once for all channels.
  template <class Element>
  LADDERSEG_INLINE void add_part(char* base, const Element* tile, int64_t rows, int64_t row_stride, int64_t first,
                                 int64_t channels) const {
    tile_statistics(tile, rows, row_stride, channels, centre.in(base), sum.in(base), square.in(base),
                    tile_mean.in(base) + first, tile_deviation.in(base) + first);
  }

  LADDERSEG_INLINE void merge_tile(RunningStatistics& into, char* base, int64_t rows, int64_t channels) const {
    merge(into, channels, rows, tile_mean.in(base), tile_deviation.in(base));
  }

  template <class Element>
  LADDERSEG_INLINE void add(RunningStatistics& into, char* base, const Element* tile, int64_t rows, int64_t row_stride,
                            int64_t channels) const {
    if (rows == 0) return;
    add_part(base, tile, rows, row_stride, 0, channels);
    merge_tile(into, base, rows, channels);
  }
};

// Merges the members' statistics in their order and writes mean and biased variance; NaN if there is no position.
template <class MemberBase>
LADDERSEG_INLINE void finish_statistics(int team, const int64_t* counts, const MemberBase& base_of, Region<double> mean,
                                        Region<double> deviation, int64_t channels, double* out_mean,
                                        double* out_variance) {
  RunningStatistics all{0, out_mean, out_variance};
  for (int64_t c = 0; c < channels; ++c) out_mean[c] = out_variance[c] = __builtin_nan("");
  for (int member = 0; member < team; ++member) {
    char* base = base_of(member);
    merge(all, channels, counts[member], mean.in(base), deviation.in(base));
  }
  for (int64_t c = 0; c < channels; ++c) out_variance[c] /= static_cast<double>(all.count);
}

}  // namespace LADDERSEG_ISA
}  // namespace ladderseg
