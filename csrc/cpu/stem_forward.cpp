// Forward of the stem: convolution, statistics and the pooled extremes in one pass. See ladderseg/stem.h.
#include "operators.h"
#include "statistics.h"
#include "stem_rows.h"

namespace ladderseg {
namespace LADDERSEG_ISA {

template <class T>
void stem_forward(const StemForward<T>& args, int threads) {
  const int64_t outputs = args.output.c;
  const bool want_statistics = args.mean != nullptr;
  ScratchLayout shared, own;
  const StemRows<T> conv(shared, own, args.images, outputs);
  const Region<int64_t> counts = shared.add<int64_t>(threads);
  const StatisticsScratch<T> statistics(own, outputs);
  char* const scratch = reserve_scratch(shared.bytes + threads * own.bytes);
  const auto base_of = [&](int member) { return scratch + shared.bytes + member * own.bytes; };
  conv.prepare(scratch, args.weight);

  parallel(threads, [&](int member, int team) {
    char* const base = base_of(member);
    RunningStatistics running = statistics.start(base);
    const Range mine = split(args.output.n * args.output.h, member, team);
    for_each_pooled_chunk(
        mine, args.output.h, args.output.w,
        [&](int64_t image, int64_t first_row, int64_t last_row, int64_t first_column, int64_t last_column) {
          const int64_t first = 2 * first_column - 1;  // of the convolution's columns
          const int64_t owned = smaller(conv.width, 2 * last_column) - 2 * first_column;
          int64_t next = first_row ? 2 * first_row - 1 : 0;
          int64_t image_row = 2 * next - kStemPadding;
          for (int64_t q = first_row; q < last_row; ++q) {
            for (; next <= smaller(2 * q + 1, conv.height - 1); ++next) {
              conv.make(scratch, base, image, next, first, image_row);
              if (want_statistics && next >= 2 * first_row)
                statistics.add(running, base, conv.kept(base, next) + conv.row, owned, conv.row, outputs);
            }
            for_each_channel_vector<T>(outputs, [&](int64_t c, auto v) {
              using V = decltype(v);
              const V scale = load_as<V>(args.norm.scale + c);
              for (int64_t s = first_column; s < last_column; ++s) {
                V value = window_extreme(conv, base, PoolingWindow(q, s, conv.height, conv.width), first, c, scale);
                if (args.norm.mean)
                  value = relu((value - load_as<V>(args.norm.mean + c)) * scale + load_as<V>(args.norm.shift + c));
                store_as<V>(args.output.at(image, q, s) + c, value);
              }
            });
          }
        });
    if (!want_statistics) return;
    counts.in(scratch)[member] = running.count;
    barrier(team);
    if (member == 0)
      finish_statistics(team, counts.in(scratch), base_of, statistics.mean, statistics.deviation, outputs, args.mean,
                        args.variance);
  });
}

LADDERSEG_INSTANTIATE(stem_forward)

}  // namespace LADDERSEG_ISA
}  // namespace ladderseg
