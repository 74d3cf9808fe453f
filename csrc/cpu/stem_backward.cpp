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
  const Region<RealOf<T>> grad = own.add<RealOf<T>>(kPooledColumns * outputs);
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

// The gradient of the convolution's result, row by row.
template <class T, class Arguments>
struct StemConvolutionGradient {
  using Real = RealOf<T>;
  using Block = RegisterBlock<Real>;

  const Arguments& args;
  const FeatureMap<const T>& pooled;
  const int64_t outputs;
  ScratchLayout shared, own;
  const StemRows<T> conv;
  const Region<RealOf<T>> grad;    // [pooled columns][outputs]: one row of the pooled gradient
  const Region<RealOf<T>> routed;  // [kKeptRows][conv.columns][conv.row]: m at the positions of the convolution
  const Region<RealOf<T>>
      finished;  // [conv.panels][conv.columns][Block::columns]: one row's gradient of the convolution

  explicit StemConvolutionGradient(const Arguments& arguments)
      : args(arguments),
        pooled(args.grad_output.grad),
        outputs(pooled.c),
        conv(shared, own, args.images, outputs),
        grad(own.add<RealOf<T>>((kPooledColumns + 1) * outputs)),
        routed(own.add<RealOf<T>>(kKeptRows * conv.columns * conv.row)),
        finished(own.add<RealOf<T>>(conv.panels * conv.columns * Block::columns)) {}

  LADDERSEG_INLINE Real* routed_row(char* base, int64_t r) const {
    return routed.in(base) + r % kKeptRows * conv.columns * conv.row;
  }

  // The chunk has rows [2 * first_row, 2 * last_row) of the convolution, and columns likewise; the windows after its
  // last row and column reach into them too. Calls use(r, count) for each of its rows, with `count` columns `finished`.
  template <class Use>
  void chunk(char* scratch, char* base, int64_t image, int64_t first_row, int64_t last_row, int64_t first_column,
             int64_t last_column, const Use& use) const {
    const int64_t first = 2 * first_column - 1;
    const int64_t count = smaller(conv.width, 2 * last_column) - 2 * first_column;
    int64_t next = first_row ? 2 * first_row - 1 : 0;
    int64_t image_row = 2 * next - kStemPadding;
    for (int64_t q = first_row; q <= last_row; ++q) {
      for (; next <= smaller(2 * q + 1, conv.height - 1); ++next) {
        conv.make(scratch, base, image, next, first, image_row);
        std::memset(routed_row(base, next), 0, conv.columns * conv.row * sizeof(RealOf<T>));
      }
      if (q < pooled.h) route(base, image, q, first_column, smaller(last_column + 1, pooled.w), first);
      if (q > first_row && 2 * q - 1 < conv.height) finish_row(base, 2 * q - 1, count, use);
      if (q < last_row) finish_row(base, 2 * q, count, use);
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
        Real number = RealOf<T>(0);
        for (int64_t r = window.first_row; r <= window.last_row; ++r)
          for (int64_t x = window.first_column; x <= window.last_column; ++x, number += RealOf<T>(1)) {
            const V value = y(r, x);
            const auto better = (value > best) | (value != value);
            best = better ? value : best;
            place = better ? V{} + number : place;
          }
        const V m = relu_mask(best, load_as<V>(grad.in(base) + (s - first_column) * outputs + c));
        number = RealOf<T>(0);
        for (int64_t r = window.first_row; r <= window.last_row; ++r)
          for (int64_t x = window.first_column; x <= window.last_column; ++x, number += RealOf<T>(1)) {
            Real* to = routed_row(base, r) + (x - first) * conv.row + c;
            store_as<V>(to, load_as<V>(to) + (place == V{} + number ? m : V{}));
          }
      }
    });
  }

  // Finishes the gradient of row r's `count` positions of this chunk.
  template <class Use>
  void finish_row(char* base, int64_t r, int64_t count, const Use& use) const {
    const Real* x = conv.kept(base, r) + conv.row;  // behind the column of halo
    const Real* m = routed_row(base, r) + conv.row;
    for (int64_t panel = 0; panel < conv.panels; ++panel) {
      Real* to = finished.in(base) + panel * conv.columns * Block::columns;
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
    use(r, count);
  }
};

// Taps whose weight gradient sums are in registers together.
constexpr int kTapRows = 8;

template <class T>
struct StemWeightGradient : StemConvolutionGradient<T, StemBackwardWeight<T>> {
  using Base = StemConvolutionGradient<T, StemBackwardWeight<T>>;
  using Base::args, Base::conv, Base::finished, Base::own;
  using typename Base::Block, typename Base::Real;

  const int64_t tap_rows;       // taps, rounded up to whole register blocks
  const Region<RealOf<T>> sum;  // [conv.panels][tap_rows][Block::columns]

  explicit StemWeightGradient(const StemBackwardWeight<T>& arguments)
      : Base(arguments),
        tap_rows(round_up<int64_t>(conv.taps, kTapRows)),
        sum(own.template add<RealOf<T>>(conv.panels * tap_rows * Block::columns)) {}

  // Adds the weight gradient of row r's `count` positions of this chunk.
  void add_row(char* base, int64_t r, int64_t count) const {
    for (int64_t tap = 0; tap < tap_rows; tap += kTapRows) {
      const T* a[kTapRows];  // behind the column of halo
      for (int64_t i = 0; i < kTapRows; ++i) a[i] = conv.read_by(base, r, smaller(tap + i, conv.taps - 1)) + conv.kStep;
      for (int64_t panel = 0; panel < conv.panels; ++panel)
        multiply_elements<true, kTapRows>(
            count,
            [&](int64_t i, int64_t k)
                __attribute__((always_inline)) { return static_cast<Real>(a[i][conv.kStep * k]); },
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
        args.grad_weight[((k * args.images.c + c) * kStemKernel + u) * kStemKernel + v] = static_cast<RealOf<T>>(total);
      }
  }
};

template <class T>
struct StemImageGradient : StemConvolutionGradient<T, StemBackwardImages<T>> {
  using Base = StemConvolutionGradient<T, StemBackwardImages<T>>;
  using Base::args, Base::conv, Base::finished, Base::outputs, Base::own, Base::pooled, Base::shared;
  using typename Base::Block, typename Base::Real;
  static constexpr bool kRounds = !std::is_same_v<T, Real>;

  // Rows that a member's first and last rows of the convolution reach and that belong to other members' images.
  static constexpr int64_t kAbove = 3, kBelow = 2;

  const int64_t panels, row;        // of the taps; row: elements from column to column of `patches`
  const int64_t image_row;          // elements of a row of all channels
  const Region<RealOf<T>> packed;   // [panels][outputs][Block::columns], shared
  const Region<RealOf<T>> patches;  // [conv.columns][row]: what one row's positions give to the pixels of their patches
  const Region<RealOf<T>> edges;    // [kAbove + kBelow][W, C]
  const Region<RealOf<T>> sums;     // [N, H, W, C], shared: what is added to the gradient, if that is rounded

  explicit StemImageGradient(const StemBackwardImages<T>& arguments)
      : Base(arguments),
        panels(round_up<int64_t>(conv.taps, Block::columns) / Block::columns),
        row(panels * Block::columns),
        image_row(args.images.w * args.images.c),
        packed(shared.template add<RealOf<T>>(panels * outputs * Block::columns)),
        patches(own.template add<RealOf<T>>(conv.columns * row)),
        edges(own.template add<RealOf<T>>((kAbove + kBelow) * image_row)),
        sums(shared.template add<RealOf<T>>(kRounds ? args.images.n * args.images.h * image_row : 0)) {}

  // Where the gradient of the images is summed.
  FeatureMap<Real> target(char* scratch) const {
    const FeatureMap<T>& grad = args.grad_images;
    if constexpr (kRounds)
      return {sums.in(scratch), grad.n, grad.h, grad.w, grad.c, grad.c};
    else
      return grad;
  }

  // Adds what was summed to pixels `mine` of the gradient.
  void round(char* scratch, Range mine) const {
    if constexpr (kRounds)
      for (int64_t p = mine.begin; p < mine.end; ++p)
        for (int64_t c = 0; c < args.images.c; ++c) {
          T& to = args.grad_images.pixel(p)[c];
          put(to, to + target(scratch).pixel(p)[c]);
        }
  }

  // Called before the team starts.
  void prepare(char* scratch) const {
    conv.prepare(scratch, args.weight);
    if (kRounds) std::memset(sums.in(scratch), 0, args.images.n * args.images.h * image_row * sizeof(Real));
    for (int64_t k = 0; k < outputs; ++k)
      for (int64_t tap = 0; tap < row; ++tap)
        packed.in(scratch)[(tap / Block::columns * outputs + k) * Block::columns + tap % Block::columns] =
            tap < conv.taps ? args.weight[k * conv.taps + tap] : RealOf<T>(0);
  }

  // Adds what row r's `count` positions from column `first` on give. The member has rows [first_row, last_row) of this
  // pooled image.
  void add_row(char* scratch, char* base, int64_t image, int64_t first_row, int64_t last_row, int64_t r, int64_t first,
               int64_t count) const {
    const RealOf<T>* from = finished.in(base);
    for (int64_t panel = 0; panel < panels; ++panel)
      for (int64_t x = 0; x < count; x += Block::rows)
        multiply_elements<false, Block::rows>(
            outputs,
            [=](int64_t i, int64_t k) __attribute__((always_inline)) {
              return from[(k / Block::columns * conv.columns + x + i) * Block::columns + k % Block::columns];
            },
            packed.in(scratch) + panel * outputs * Block::columns, patches.in(base) + x * row + panel * Block::columns,
            row);
    const int64_t channels = args.images.c;
    const FeatureMap<Real> grad_images = target(scratch);
    for (int64_t u = 0; u < kStemKernel; ++u) {
      const int64_t y = 2 * r - kStemPadding + u;
      if (y < 0 || y >= args.images.h) continue;
      const int64_t above = 4 * first_row - y, below = last_row < pooled.h ? y - 4 * last_row : -1;
      const bool own_row = above <= 0 && below < 0;
      Real* const to = own_row ? grad_images.at(image, y, 0)
                               : edges.in(base) + (above > 0 ? kAbove - above : kAbove + below) * image_row;
      const int64_t stride = own_row ? grad_images.pixel_stride : channels;
      for (int64_t i = 0; i < count; ++i)
        for (int64_t v = 0; v < kStemKernel; ++v) {
          const int64_t x = 2 * (first + i) - kStemPadding + v;
          if (x < 0 || x >= args.images.w) continue;
          for (int64_t c = 0; c < channels; ++c)
            to[x * stride + c] += patches.in(base)[i * row + (c * kStemKernel + u) * kStemKernel + v];
        }
    }
  }

  // Adds the edges of the member with rows `mine` of all pooled images.
  void add_edges(char* scratch, char* base, Range mine) const {
    if (mine.begin >= mine.end) return;
    add_edge(scratch, edges.in(base), mine.begin / pooled.h, 4 * (mine.begin % pooled.h) - kAbove, kAbove);
    const int64_t last = mine.end - 1;
    add_edge(scratch, edges.in(base) + kAbove * image_row, last / pooled.h, 4 * (last % pooled.h + 1), kBelow);
  }

  void add_edge(char* scratch, const Real* from, int64_t image, int64_t first, int64_t rows) const {
    const int64_t channels = args.images.c;
    const FeatureMap<Real> grad_images = target(scratch);
    for (int64_t y = first; y < first + rows; ++y, from += image_row) {
      if (y < 0 || y >= args.images.h) continue;
      for (int64_t x = 0; x < args.images.w; ++x)
        for (int64_t c = 0; c < channels; ++c) grad_images.at(image, y, x)[c] += from[x * channels + c];
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
    std::memset(work.sum.in(base), 0,
                work.conv.panels * work.tap_rows * RegisterBlock<RealOf<T>>::columns * sizeof(RealOf<T>));
    const Range mine = split(work.pooled.n * work.pooled.h, member, team);
    for_each_pooled_chunk(
        mine, work.pooled.h, work.pooled.w,
        [&](int64_t image, int64_t first_row, int64_t last_row, int64_t first_column, int64_t last_column) {
          work.chunk(scratch, base, image, first_row, last_row, first_column, last_column,
                     [&](int64_t r, int64_t count) { work.add_row(base, r, count); });
        });
    barrier(team);
    work.finish(team, base_of, split(work.outputs, member, team));
  });
}

template <class T>
void stem_backward_images(const StemBackwardImages<T>& args, int threads) {
  const StemImageGradient<T> work(args);
  char* const scratch = reserve_scratch(work.shared.bytes + threads * work.own.bytes);
  const auto base_of = [&](int member) { return scratch + work.shared.bytes + member * work.own.bytes; };
  const int64_t rows = work.pooled.n * work.pooled.h;
  work.prepare(scratch);

  parallel(threads, [&](int member, int team) {
    char* const base = base_of(member);
    std::memset(work.edges.in(base), 0, (work.kAbove + work.kBelow) * work.image_row * sizeof(RealOf<T>));
    for_each_pooled_chunk(
        split(rows, member, team), work.pooled.h, work.pooled.w,
        [&](int64_t image, int64_t first_row, int64_t last_row, int64_t first_column, int64_t last_column) {
          work.chunk(scratch, base, image, first_row, last_row, first_column, last_column,
                     [&](int64_t r, int64_t count) {
                       work.add_row(scratch, base, image, first_row, last_row, r, 2 * first_column, count);
                     });
        });
    barrier(team);
    if (member == 0)
      for (int other = 0; other < team; ++other) work.add_edges(scratch, base_of(other), split(rows, other, team));
    if (!work.kRounds) return;
    barrier(team);
    work.round(scratch, split(args.grad_images.pixels(), member, team));
  });
}

LADDERSEG_INSTANTIATE(stem_backward_sums)
LADDERSEG_INSTANTIATE(stem_backward_weight)
LADDERSEG_INSTANTIATE(stem_backward_images)

}  // namespace LADDERSEG_ISA
}  // namespace ladderseg
