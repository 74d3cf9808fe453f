// Backward of the stem: recomputes rows of the convolution, and sums the gradients. See ladderseg/stem.h.
#include <cstring>

#include "bn_sums.h"
#include "corrected_gradient.h"
#include "operators.h"
#include "stem_rows.h"

namespace ladderseg {
namespace LADDERSEG_ISA {

template <class T>
void stem_backward_sums(const StemBackwardSums<T>& args, int threads) {
  const FeatureMap<const T>& pooled = args.grad_output.grad;
  const int64_t outputs = pooled.c;
  ScratchLayout shared, own;
  const StemRows<T> conv(shared, own, args.images, outputs);
  const Region<T> grad = own.add<T>(kPooledColumns * outputs);
  const BnSumsScratch<T> sums(own, outputs);
  char* const scratch = reserve_scratch(shared.bytes + threads * own.bytes);
  const auto base_of = [&](int member) { return scratch + shared.bytes + member * own.bytes; };
  conv.prepare(scratch, args.weight);

  parallel(threads, [&](int member, int team) {
    char* const base = base_of(member);
    sums.start(base, outputs);
    const Range mine = split(pooled.n * pooled.h, member, team);
    for_each_pooled_chunk(
        mine, pooled.h, pooled.w,
        [&](int64_t image, int64_t first_row, int64_t last_row, int64_t first_column, int64_t last_column) {
          const int64_t first = 2 * first_column - 1;
          int64_t next = first_row ? 2 * first_row - 1 : 0;
          int64_t image_row = 2 * next - kStemPadding;
          for (int64_t q = first_row; q < last_row; ++q) {
            for (; next <= smaller(2 * q + 1, conv.height - 1); ++next)
              conv.make(scratch, base, image, next, first, image_row);
            const int64_t pixel = (image * pooled.h + q) * pooled.w + first_column;
            for (int64_t s = 0; s < last_column - first_column; ++s)
              gradient_pixel(args.grad_output, pixel + s, outputs, grad.in(base) + s * outputs);
            for_each_channel_vector<T>(outputs, [&](int64_t c, auto v) {
              using V = decltype(v);
              const V mean = load_as<V>(args.norm.mean + c), scale = load_as<V>(args.norm.scale + c);
              const V shift = load_as<V>(args.norm.shift + c);
              V masked = {}, centred = {};
              for (int64_t s = first_column; s < last_column; ++s) {
                const PoolingWindow window(q, s, conv.height, conv.width);
                const V d = window_extreme(conv, base, window, first, c, scale) - mean;
                const V m = relu_mask(d * scale + shift, load_as<V>(grad.in(base) + (s - first_column) * outputs + c));
                masked += m;
                centred += m * d;
              }
              store_as<V>(sums.masked.in(base) + c, masked);
              store_as<V>(sums.centred.in(base) + c, centred);
            });
            sums.flush(base, outputs);
          }
        });
    barrier(team);
    if (member == 0) sums.finish(team, base_of, outputs, args.sums);
  });
}

namespace {

// Taps whose weight gradient sums are in registers together.
constexpr int kTapRows = 8;

template <class T>
struct StemWeightGradient {
  using Block = RegisterBlock<T>;

  const StemBackwardWeight<T>& args;
  const FeatureMap<const T>& pooled;
  const int64_t outputs;
  ScratchLayout shared, own;
  const StemRows<T> conv;
  const int64_t tap_rows;    // taps, rounded up to whole register blocks
  const Region<T> grad;      // [pooled columns][outputs]: one row of the pooled gradient
  const Region<T> routed;    // [kKeptRows][conv.columns][conv.row]: m at the positions of the convolution
  const Region<T> finished;  // [conv.panels][conv.columns][Block::columns]: one row's gradient of the convolution
  const Region<T> sum;       // [conv.panels][tap_rows][Block::columns]

  explicit StemWeightGradient(const StemBackwardWeight<T>& arguments)
      : args(arguments),
        pooled(args.grad_output.grad),
        outputs(pooled.c),
        conv(shared, own, args.images, outputs),
        tap_rows(round_up<int64_t>(conv.taps, kTapRows)),
        grad(own.add<T>((kPooledColumns + 1) * outputs)),
        routed(own.add<T>(kKeptRows * conv.columns * conv.row)),
        finished(own.add<T>(conv.panels * conv.columns * Block::columns)),
        sum(own.add<T>(conv.panels * tap_rows * Block::columns)) {}

  LADDERSEG_INLINE T* routed_row(char* base, int64_t r) const {
    return routed.in(base) + r % kKeptRows * conv.columns * conv.row;
  }

  // The chunk has rows [2 * first_row, 2 * last_row) of the convolution, and columns likewise; the windows after its
  // last row and column reach into them too.
  void chunk(char* scratch, char* base, int64_t image, int64_t first_row, int64_t last_row, int64_t first_column,
             int64_t last_column) const {
    const int64_t first = 2 * first_column - 1;
    const int64_t count = smaller(conv.width, 2 * last_column) - 2 * first_column;
    int64_t next = first_row ? 2 * first_row - 1 : 0;
    int64_t image_row = 2 * next - kStemPadding;
    for (int64_t q = first_row; q <= last_row; ++q) {
      for (; next <= smaller(2 * q + 1, conv.height - 1); ++next) {
        conv.make(scratch, base, image, next, first, image_row);
        std::memset(routed_row(base, next), 0, conv.columns * conv.row * sizeof(T));
      }
      if (q < pooled.h) route(base, image, q, first_column, smaller(last_column + 1, pooled.w), first);
      if (q > first_row && 2 * q - 1 < conv.height) add_row(scratch, base, 2 * q - 1, count);
      if (q < last_row) add_row(scratch, base, 2 * q, count);
    }
  }

  // Adds each pooled gradient of one row of windows to its window's first maximum.
  void route(char* base, int64_t image, int64_t q, int64_t first_column, int64_t last_column, int64_t first) const {
    const int64_t pixel = (image * pooled.h + q) * pooled.w;
    for (int64_t s = first_column; s < last_column; ++s)
      gradient_pixel(args.grad_output, pixel + s, outputs, grad.in(base) + (s - first_column) * outputs);
    for_each_channel_vector<T>(outputs, [&](int64_t c, auto v) {
      using V = decltype(v);
      const V mean = load_as<V>(args.norm.mean + c), scale = load_as<V>(args.norm.scale + c);
      const V shift = load_as<V>(args.norm.shift + c);
      for (int64_t s = first_column; s < last_column; ++s) {
        const PoolingWindow window(q, s, conv.height, conv.width);
        const auto y = [&](int64_t r, int64_t x) __attribute__((always_inline)) {
          return relu((load_as<V>(conv.kept(base, r) + (x - first) * conv.row + c) - mean) * scale + shift);
        };
        V best = y(window.first_row, window.first_column), place = {};
        T number = T(0);
        for (int64_t r = window.first_row; r <= window.last_row; ++r)
          for (int64_t x = window.first_column; x <= window.last_column; ++x, number += T(1)) {
            const V value = y(r, x);
            const auto better = (value > best) | (value != value);
            best = better ? value : best;
            place = better ? V{} + number : place;
          }
        const V m = relu_mask(best, load_as<V>(grad.in(base) + (s - first_column) * outputs + c));
        number = T(0);
        for (int64_t r = window.first_row; r <= window.last_row; ++r)
          for (int64_t x = window.first_column; x <= window.last_column; ++x, number += T(1)) {
            T* to = routed_row(base, r) + (x - first) * conv.row + c;
            store_as<V>(to, load_as<V>(to) + (place == V{} + number ? m : V{}));
          }
      }
    });
  }

  // Adds the weight gradient of row r's `count` positions of this chunk.
  void add_row(char* scratch, char* base, int64_t r, int64_t count) const {
    const T* x = conv.kept(base, r) + conv.row;  // behind the column of halo
    const T* m = routed_row(base, r) + conv.row;
    for (int64_t panel = 0; panel < conv.panels; ++panel) {
      T* to = finished.in(base) + panel * conv.columns * Block::columns;
      const int64_t width = smaller<int64_t>(Block::columns, outputs - panel * Block::columns);
      for_each_channel_vector<T>(width, [&](int64_t j, auto v) {
        using V = decltype(v);
        const int64_t c = panel * Block::columns + j;
        const V mean = load_as<V>(args.norm.mean + c), scale = load_as<V>(args.norm.scale + c);
        const V constant = load_as<V>(args.constant + c), slope = load_as<V>(args.slope + c);
        for (int64_t i = 0; i < count; ++i)
          store_as<V>(to + i * Block::columns + j, scale * load_as<V>(m + i * conv.row + c) - constant -
                                                       slope * (load_as<V>(x + i * conv.row + c) - mean));
      });
    }
    const int64_t* offset = conv.offsets_of(scratch, r);
    for (int64_t tap = 0; tap < tap_rows; tap += kTapRows) {
      const T* a[kTapRows];
      for (int64_t i = 0; i < kTapRows; ++i) a[i] = conv.ring.in(base) + 1 + offset[smaller(tap + i, conv.taps - 1)];
      for (int64_t panel = 0; panel < conv.panels; ++panel)
        multiply_elements<true, kTapRows>(
            count, [&](int64_t i, int64_t k) __attribute__((always_inline)) { return a[i][k]; },
            finished.in(base) + panel * conv.columns * Block::columns,
            sum.in(base) + (panel * tap_rows + tap) * Block::columns, Block::columns);
    }
  }

  // Adds the members' sums in their order, for the output channels `mine`.
  template <class MemberBase>
  void finish(int team, const MemberBase& base_of, Range mine) const {
    for (int64_t k = mine.begin; k < mine.end; ++k)
      for (int64_t tap = 0; tap < conv.taps; ++tap) {
        double total = 0.0;
        for (int member = 0; member < team; ++member)
          total += static_cast<double>(
              sum.in(base_of(member))[(k / Block::columns * tap_rows + tap) * Block::columns + k % Block::columns]);
        const int64_t v = tap % kStemKernel, c = tap / kStemKernel % args.images.c;
        const int64_t u = tap / kStemKernel / args.images.c;
        args.grad_weight[((k * args.images.c + c) * kStemKernel + u) * kStemKernel + v] = static_cast<T>(total);
      }
  }
};

}  // namespace

template <class T>
void stem_backward_weight(const StemBackwardWeight<T>& args, int threads) {
  const StemWeightGradient<T> work(args);
  char* const scratch = reserve_scratch(work.shared.bytes + threads * work.own.bytes);
  const auto base_of = [&](int member) { return scratch + work.shared.bytes + member * work.own.bytes; };
  work.conv.prepare(scratch, args.weight);

  parallel(threads, [&](int member, int team) {
    char* const base = base_of(member);
    std::memset(work.sum.in(base), 0, work.conv.panels * work.tap_rows * RegisterBlock<T>::columns * sizeof(T));
    const Range mine = split(work.pooled.n * work.pooled.h, member, team);
    for_each_pooled_chunk(
        mine, work.pooled.h, work.pooled.w,
        [&](int64_t image, int64_t first_row, int64_t last_row, int64_t first_column, int64_t last_column) {
          work.chunk(scratch, base, image, first_row, last_row, first_column, last_column);
        });
    barrier(team);
    work.finish(team, base_of, split(work.outputs, member, team));
  });
}

LADDERSEG_INSTANTIATE(stem_backward_sums)
LADDERSEG_INSTANTIATE(stem_backward_weight)

}  // namespace LADDERSEG_ISA
}  // namespace ladderseg
