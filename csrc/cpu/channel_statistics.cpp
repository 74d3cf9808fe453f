// Mean and variance of every channel: see ladderseg/channel_statistics.h.
#include "operators.h"
#include "parallel.h"
#include "statistics.h"

namespace ladderseg {
namespace LADDERSEG_ISA {

// Rows of a tile, which is read twice: with a few dozen channels it should fit the first-level cache.
constexpr int64_t kTileRows = 64;

template <class T>
void channel_statistics(const ChannelStatistics<T>& args, int threads) {
  const int64_t channels = args.input.c;
  ScratchLayout shared;
  const Region<int64_t> counts = shared.add<int64_t>(threads);
  ScratchLayout own;
  const StatisticsScratch<T> statistics(own, channels);
  char* const scratch = reserve_scratch(shared.bytes + threads * own.bytes);
  const auto base_of = [&](int member) { return scratch + shared.bytes + member * own.bytes; };

  parallel(threads, [&](int member, int team) {
    char* const base = base_of(member);
    RunningStatistics running = statistics.start(base);
    const Range range = split(args.input.pixels(), member, team, kTileRows);
    for (int64_t p = range.begin; p < range.end; p += kTileRows) {
      const int64_t rows = smaller(kTileRows, range.end - p);
      statistics.add(running, base, args.input.pixel(p), rows, args.input.pixel_stride, channels);
    }
    counts.in(scratch)[member] = running.count;
    barrier(team);
    if (member == 0)
      finish_statistics(team, counts.in(scratch), base_of, statistics.mean, statistics.deviation, channels, args.mean,
                        args.variance);
  });
}

LADDERSEG_INSTANTIATE(channel_statistics)

}  // namespace LADDERSEG_ISA
}  // namespace ladderseg
