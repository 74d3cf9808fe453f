// BN-ReLU-maxpool 3x3/2, forward and backward: see ladderseg/bn_relu_maxpool.h.
#include "bn_sums.h"
#include "operators.h"
#include "parallel.h"

namespace ladderseg {
namespace LADDERSEG_ISA {

// Visits the pixels of the window of pooled pixel (row, column), in row-major order: visit(pointer, ky * 3 + kx).
template <class T, class Visit>
LADDERSEG_INLINE void visit_window(const FeatureMap<const T>& input, int64_t image, int64_t centre_row,
                                   int64_t centre_column, const Visit& visit) {
  for (int ky = 0; ky < 3; ++ky) {
    const int64_t y = centre_row + ky - 1;
    if (y < 0 || y >= input.h) continue;
    for (int kx = 0; kx < 3; ++kx) {
      const int64_t x = centre_column + kx - 1;
      if (x < 0 || x >= input.w) continue;
      visit(input.at(image, y, x), ky * 3 + kx);
    }
  }
}

// Includes the BN-ReLU of one pixel of a window, from channel `c` on, in the maximum. By torch's rule the first maximum
// and the last NaN win. With `want_source`, `source` gets the position of the maximum.
template <class V, bool want_source, class T>
LADDERSEG_INLINE void update_at(int64_t c, const T* x, const Norm<RealOf<T>>& norm, RealOf<T> position,
                                RealOf<T>* maximum, RealOf<T>* source) {
  const V y =
      relu((load_as<V>(x + c) - load_as<V>(norm.mean + c)) * load_as<V>(norm.scale + c) + load_as<V>(norm.shift + c));
  const V before = load_as<V>(maximum + c);
  const auto replaces = (y > before) | (y != y);
  store_as<V>(maximum + c, replaces ? y : before);
  if constexpr (want_source) {
    const V here = V{} + position;
    store_as<V>(source + c, replaces ? here : load_as<V>(source + c));
  }
}

template <bool want_source, class T>
LADDERSEG_INLINE void update_maximum(int64_t channels, const T* x, const Norm<RealOf<T>>& norm, RealOf<T> position,
                                     RealOf<T>* maximum, RealOf<T>* source) {
  for_each_channel_vector<T>(channels, [&](int64_t c, auto zero) {
    update_at<decltype(zero), want_source>(c, x, norm, position, maximum, source);
  });
}

// grad += pooled where the pooled value came from `position`.
template <class T>
LADDERSEG_INLINE void add_where(int64_t channels, const RealOf<T>* source, RealOf<T> position, const T* pooled,
                                RealOf<T>* grad) {
  for_each_channel_vector<T>(channels, [&](int64_t c, auto zero) {
    using V = decltype(zero);
    const V added = load_as<V>(source + c) == V{} + position ? load_as<V>(pooled + c) : V{};
    store_as<V>(grad + c, load_as<V>(grad + c) + added);
  });
}

template <class T>
void bn_relu_maxpool_forward(const BnReluMaxpoolForward<T>& args, int threads) {
  const int64_t channels = args.input.c;
  ScratchLayout own;
  const Region<RealOf<T>> maximum = own.add<RealOf<T>>(channels);
  char* const scratch = reserve_scratch(threads * own.bytes);

  parallel(threads, [&](int member, int team) {
    RealOf<T>* const best = maximum.in(scratch + member * own.bytes);
    const Range range = split(args.output.pixels(), member, team);
    for (int64_t p = range.begin; p < range.end; ++p) {
      const int64_t column = p % args.output.w;
      const int64_t row = p / args.output.w % args.output.h;
      const int64_t image = p / (args.output.w * args.output.h);
      for (int64_t c = 0; c < channels; ++c) best[c] = -__builtin_inf();
      visit_window(args.input, image, args.first_row + 2 * row, 2 * column, [&](const T* x, int) {
        update_maximum<false, T>(channels, x, args.norm, RealOf<T>(0), best, nullptr);
      });
      copy_elements(best, channels, args.output.pixel(p));
    }
  });
}

// Position in its window (ky * 3 + kx) of each pooled value of one row; in the type of arithmetic, so that it
// vectorises.
template <class T>
LADDERSEG_INLINE void find_sources(const BnReluMaxpoolBackward<T>& args, int64_t image, int64_t row, RealOf<T>* sources,
                                   RealOf<T>* maximum) {
  const int64_t channels = args.input.c;
  for (int64_t column = 0; column < args.grad_output.w; ++column) {
    RealOf<T>* source = sources + column * channels;
    for (int64_t c = 0; c < channels; ++c) maximum[c] = -__builtin_inf();
    visit_window(args.input, image, args.first_row + 2 * row, 2 * column, [&](const T* x, int position) {
      update_maximum<true>(channels, x, args.norm, static_cast<RealOf<T>>(position), maximum, source);
    });
  }
}

// The two most recent rows of sources; neighbouring input rows share them.
template <class T>
struct SourceRows {
  using Real = RealOf<T>;
  const BnReluMaxpoolBackward<T>& args;
  Real* rows;     // [2, w, C]
  Real* maximum;  // [C]
  int64_t held[2] = {-1, -1};

  LADDERSEG_INLINE const Real* get(int64_t image, int64_t row) {
    const int64_t key = image * args.grad_output.h + row;
    const int slot = static_cast<int>(row % 2);
    Real* sources = rows + slot * args.grad_output.w * args.input.c;
    if (held[slot] != key) {
      find_sources(args, image, row, sources, maximum);
      held[slot] = key;
    }
    return sources;
  }
};

// Up to two pooled rows (or columns) whose windows contain input row `offset` from the first centre.
struct Windows {
  int64_t index[2];
  int tap[2];
  int count = 0;

  LADDERSEG_INLINE Windows(int64_t offset, int64_t pooled) {
    if (offset % 2 == 0) {
      add(offset / 2, 1, pooled);
    } else {
      add((offset - 1) >> 1, 2, pooled);
      add((offset + 1) >> 1, 0, pooled);
    }
  }
  LADDERSEG_INLINE void add(int64_t i, int t, int64_t pooled) {
    if (i < 0 || i >= pooled) return;
    index[count] = i;
    tap[count++] = t;
  }
};

template <class T>
LADDERSEG_INLINE void bn_relu_maxpool_backward_row(const BnReluMaxpoolBackward<T>& args, int64_t image, int64_t y,
                                                   SourceRows<T>& sources, RealOf<T>* grad,
                                                   const BnSumsScratch<T>& sums, char* base) {
  const int64_t channels = args.input.c;
  const Windows vertical(y - args.first_row, args.grad_output.h);
  const RealOf<T>* source_rows[2] = {nullptr, nullptr};
  for (int v = 0; v < vertical.count; ++v) source_rows[v] = sources.get(image, vertical.index[v]);
  for (int64_t x = 0; x < args.input.w; ++x) {
    const Windows horizontal(x, args.grad_output.w);
    for (int64_t c = 0; c < channels; ++c) grad[c] = RealOf<T>(0);
    for (int v = 0; v < vertical.count; ++v)
      for (int h = 0; h < horizontal.count; ++h) {
        const RealOf<T> position = static_cast<RealOf<T>>(vertical.tap[v] * 3 + horizontal.tap[h]);
        add_where(channels, source_rows[v] + horizontal.index[h] * channels, position,
                  args.grad_output.at(image, vertical.index[v], horizontal.index[h]), grad);
      }
    bn_relu_backward_pixel<false>(channels, args.input.at(image, y, x), grad, RealOf<T>(1), args.norm,
                                  args.grad_input.at(image, y - args.first_grad_row, x), sums.masked.in(base),
                                  sums.centred.in(base));
    if (x % 64 == 63) sums.flush(base, channels);
  }
  sums.flush(base, channels);
}

template <class T>
void bn_relu_maxpool_backward(const BnReluMaxpoolBackward<T>& args, int threads) {
  const int64_t channels = args.input.c;
  ScratchLayout own;
  const BnSumsScratch<T> sums(own, channels);
  const Region<RealOf<T>> source_rows = own.add<RealOf<T>>(2 * args.grad_output.w * channels);
  const Region<RealOf<T>> maximum = own.add<RealOf<T>>(channels);
  const Region<RealOf<T>> grad = own.add<RealOf<T>>(channels);
  char* const scratch = reserve_scratch(threads * own.bytes);
  const auto base_of = [&](int member) { return scratch + member * own.bytes; };

  parallel(threads, [&](int member, int team) {
    char* const base = base_of(member);
    sums.start(base, channels);
    SourceRows<T> sources{args, source_rows.in(base), maximum.in(base)};
    const int64_t height = args.grad_input.h;
    const Range rows = split(args.grad_input.n * height, member, team);
    for (int64_t row = rows.begin; row < rows.end; ++row)
      bn_relu_maxpool_backward_row(args, row / height, args.first_grad_row + row % height, sources, grad.in(base), sums,
                                   base);
    barrier(team);
    if (member == 0) sums.finish(team, base_of, channels, args.sums);
  });
}

LADDERSEG_INSTANTIATE(bn_relu_maxpool_forward)
LADDERSEG_INSTANTIATE(bn_relu_maxpool_backward)

}  // namespace LADDERSEG_ISA
}  // namespace ladderseg
