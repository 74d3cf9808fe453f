// Batch norm, sum with a shortcut and ReLU, forward and backward: see ladderseg/bn_add_relu.h.
#include "bn_sums.h"
#include "operators.h"
#include "parallel.h"

namespace ladderseg {
namespace LADDERSEG_ISA {

// Pixels whose sums are kept in the type of arithmetic before they go to the double totals.
constexpr int64_t kFlush = 64;

template <bool has_shortcut_norm, class T>
LADDERSEG_INLINE void forward_pixel(const BnAddReluForward<T>& args, int64_t p) {
  const T* const x = args.input.pixel(p);
  const T* const shortcut = args.shortcut.pixel(p);
  T* const output = args.output.pixel(p);
  const Norm<RealOf<T>> norm = args.norm, shortcut_norm = args.shortcut_norm;
  for_each_channel_vector<T>(args.input.c, [&](int64_t c, auto zero) {
    using V = decltype(zero);
    const V y = (load_as<V>(x + c) - load_as<V>(norm.mean + c)) * load_as<V>(norm.scale + c);
    V s = load_as<V>(shortcut + c);
    if constexpr (has_shortcut_norm)
      s = (s - load_as<V>(shortcut_norm.mean + c)) * load_as<V>(shortcut_norm.scale + c) +
          load_as<V>(shortcut_norm.shift + c);
    store_as<V>(output + c, relu(y + load_as<V>(norm.shift + c) + s));
  });
}

template <class T>
void bn_add_relu_forward(const BnAddReluForward<T>& args, int threads) {
  parallel(threads, [&](int member, int team) {
    const Range range = split(args.output.pixels(), member, team);
    if (args.shortcut_norm.mean)
      for (int64_t p = range.begin; p < range.end; ++p) forward_pixel<true>(args, p);
    else
      for (int64_t p = range.begin; p < range.end; ++p) forward_pixel<false>(args, p);
  });
}

// One member's sums: those of the input, and for the shortcut the second alone, because both have the same first.
template <class T>
struct UnitSums {
  using Real = RealOf<T>;
  BnSumsScratch<T> input;
  Region<Real> centred;
  Region<double> total_centred;

  LADDERSEG_INLINE UnitSums(ScratchLayout& layout, int64_t channels)
      : input(layout, channels), centred(layout.add<Real>(channels)), total_centred(layout.add<double>(channels)) {}

  LADDERSEG_INLINE void start(char* base, int64_t channels) const {
    input.start(base, channels);
    for (int64_t c = 0; c < channels; ++c) centred.in(base)[c] = Real(0);
    for (int64_t c = 0; c < channels; ++c) total_centred.in(base)[c] = 0.0;
  }

  LADDERSEG_INLINE void flush(char* base, int64_t channels) const {
    input.flush(base, channels);
    Real* const sum = centred.in(base);
    double* const total = total_centred.in(base);
    for (int64_t c = 0; c < channels; ++c) {
      total[c] += static_cast<double>(sum[c]);
      sum[c] = Real(0);
    }
  }

  template <class MemberBase>
  LADDERSEG_INLINE void finish(int team, const MemberBase& base_of, const BnAddReluBackward<T>& args) const {
    const int64_t channels = args.input.c;
    input.finish(team, base_of, channels, args.sums);
    if (!args.shortcut_norm.mean) return;
    const BnSums& sums = args.shortcut_sums;
    for (int64_t c = 0; c < channels; ++c) sums.masked[c] = args.sums.masked[c];
    for (int64_t c = 0; c < channels; ++c) sums.centred[c] = 0.0;
    for (int member = 0; member < team; ++member) {
      const double* const total = total_centred.in(base_of(member));
      for (int64_t c = 0; c < channels; ++c) sums.centred[c] += total[c];
    }
  }
};

// Every vector is read before it is written: maps may be the same.
template <bool has_correction, bool has_shortcut_norm, class T>
LADDERSEG_INLINE void backward_pixel(const BnAddReluBackward<T>& args, int64_t p, const UnitSums<T>& sums, char* base) {
  const Gradient<T>& gradient = args.grad_output;
  const T* const grad = gradient.grad.pixel(p);
  const T* const grad_x = has_correction ? gradient.input.pixel(p) : nullptr;
  const T* const output = args.output.pixel(p);
  const T* const x = args.input.pixel(p);
  const T* const shortcut = has_shortcut_norm ? args.shortcut.pixel(p) : nullptr;
  T* const grad_input = args.grad_input.data ? args.grad_input.pixel(p) : nullptr;
  T* const grad_shortcut = args.grad_shortcut.data ? args.grad_shortcut.pixel(p) : nullptr;
  RealOf<T>* const masked = sums.input.masked.in(base);
  RealOf<T>* const centred = sums.input.centred.in(base);
  RealOf<T>* const shortcut_centred = sums.centred.in(base);
  for_each_channel_vector<T>(args.input.c, [&](int64_t c, auto zero) {
    using V = decltype(zero);
    const auto at = [&](const auto* data) { return load_as<V>(data + c); };
    V g = at(grad);
    if constexpr (has_correction) g = g - at(gradient.constant) - at(gradient.slope) * (at(grad_x) - at(gradient.mean));
    const V m = relu_mask(at(output), g);
    store_as<V>(masked + c, at(masked) + m);
    store_as<V>(centred + c, at(centred) + m * (at(x) - at(args.norm.mean)));
    V to_shortcut = m;
    if constexpr (has_shortcut_norm) {
      const V deviation = at(shortcut) - at(args.shortcut_norm.mean);
      store_as<V>(shortcut_centred + c, at(shortcut_centred) + m * deviation);
      to_shortcut = at(args.shortcut_norm.scale) * m;
    }
    if (grad_input) store_as<V>(grad_input + c, at(args.norm.scale) * m);
    if (grad_shortcut) {
      if (args.accumulate) to_shortcut = to_shortcut + at(grad_shortcut);
      store_as<V>(grad_shortcut + c, to_shortcut);
    }
  });
}

template <bool has_correction, bool has_shortcut_norm, class T>
void bn_add_relu_backward_range(const BnAddReluBackward<T>& args, Range range, const UnitSums<T>& sums, char* base) {
  const int64_t channels = args.input.c;
  sums.start(base, channels);
  for (int64_t first = range.begin; first < range.end; first += kFlush) {
    const int64_t last = smaller(first + kFlush, range.end);
    for (int64_t p = first; p < last; ++p) backward_pixel<has_correction, has_shortcut_norm>(args, p, sums, base);
    sums.flush(base, channels);
  }
}

template <class T>
void bn_add_relu_backward(const BnAddReluBackward<T>& args, int threads) {
  const int64_t channels = args.input.c;
  ScratchLayout own;
  const UnitSums<T> sums(own, channels);
  char* const scratch = reserve_scratch(threads * own.bytes);
  const auto base_of = [&](int member) { return scratch + member * own.bytes; };
  const bool has_correction = args.grad_output.input.data, has_shortcut_norm = args.shortcut_norm.mean;
  const auto work =
      has_correction
          ? (has_shortcut_norm ? bn_add_relu_backward_range<true, true, T> : bn_add_relu_backward_range<true, false, T>)
          : (has_shortcut_norm ? bn_add_relu_backward_range<false, true, T>
                               : bn_add_relu_backward_range<false, false, T>);

  parallel(threads, [&](int member, int team) {
    work(args, split(args.input.pixels(), member, team, kFlush), sums, base_of(member));
    barrier(team);
    if (member == 0) sums.finish(team, base_of, args);
  });
}

LADDERSEG_INSTANTIATE(bn_add_relu_forward)
LADDERSEG_INSTANTIATE(bn_add_relu_backward)

}  // namespace LADDERSEG_ISA
}  // namespace ladderseg
