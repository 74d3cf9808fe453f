// BN-ReLU-avgpool 2x2, forward and backward: see ladderseg/bn_relu_avgpool2.h.
#include <cstring>

#include "bn_sums.h"
#include "operators.h"
#include "parallel.h"

namespace ladderseg {
namespace LADDERSEG_ISA {

template <class T>
void bn_relu_avgpool2_forward(const BnReluAvgpool2Forward<T>& args, int threads) {
  const int64_t channels = args.input.c;
  parallel(threads, [&](int member, int team) {
    const Range range = split(args.output.pixels(), member, team);
    for (int64_t p = range.begin; p < range.end; ++p) {
      const int64_t x = p % args.output.w;
      const int64_t y = p / args.output.w % args.output.h;
      const int64_t image = p / (args.output.w * args.output.h);
      const T* const a = args.input.at(image, 2 * y, 2 * x);
      const T* const b = a + args.input.pixel_stride;
      const T* const c = args.input.at(image, 2 * y + 1, 2 * x);
      const T* const d = c + args.input.pixel_stride;
      T* const output = args.output.pixel(p);
      for_each_channel_vector<T>(channels, [&](int64_t i, auto zero) {
        using V = decltype(zero);
        const V mean = load_as<V>(args.norm.mean + i), scale = load_as<V>(args.norm.scale + i);
        const V shift = load_as<V>(args.norm.shift + i);
        const auto y = [&](const T* pixel) { return relu((load_as<V>(pixel + i) - mean) * scale + shift); };
        store_as<V>(output + i, ((y(a) + y(b)) + (y(c) + y(d))) * RealOf<T>(0.25));
      });
    }
  });
}

template <bool accumulate, class T>
void bn_relu_avgpool2_backward_range(const BnReluAvgpool2Backward<T>& args, Range rows, const BnSumsScratch<T>& sums,
                                     char* base) {
  const int64_t channels = args.input.c;
  const int64_t height = args.input.h, width = args.input.w;
  const int64_t pooled_height = args.grad_output.h, pooled_width = args.grad_output.w;
  sums.start(base, channels);
  for (int64_t row = rows.begin; row < rows.end; ++row) {
    const int64_t image = row / height, y = row % height;
    for (int64_t x = 0; x < width; ++x) {
      T* grad_input = args.grad_input.at(image, y, x);
      if (y / 2 < pooled_height && x / 2 < pooled_width) {
        bn_relu_backward_pixel<accumulate>(channels, args.input.at(image, y, x),
                                           args.grad_output.at(image, y / 2, x / 2), RealOf<T>(0.25), args.norm,
                                           grad_input, sums.masked.in(base), sums.centred.in(base));
      } else if (!accumulate) {
        std::memset(grad_input, 0, channels * sizeof(T));
      }
      if (x % 64 == 63) sums.flush(base, channels);
    }
    sums.flush(base, channels);
  }
}

template <class T>
void bn_relu_avgpool2_backward(const BnReluAvgpool2Backward<T>& args, int threads) {
  const int64_t channels = args.input.c;
  ScratchLayout own;
  const BnSumsScratch<T> sums(own, channels);
  char* const scratch = reserve_scratch(threads * own.bytes);
  const auto base_of = [&](int member) { return scratch + member * own.bytes; };

  parallel(threads, [&](int member, int team) {
    const Range rows = split(args.input.n * args.input.h, member, team);
    if (args.accumulate)
      bn_relu_avgpool2_backward_range<true>(args, rows, sums, base_of(member));
    else
      bn_relu_avgpool2_backward_range<false>(args, rows, sums, base_of(member));
    barrier(team);
    if (member == 0) sums.finish(team, base_of, channels, args.sums);
  });
}

LADDERSEG_INSTANTIATE(bn_relu_avgpool2_forward)
LADDERSEG_INSTANTIATE(bn_relu_avgpool2_backward)

}  // namespace LADDERSEG_ISA
}  // namespace ladderseg
