// BN-ReLU-avgpool 2x2, forward and backward: see ladderseg/bn_relu_avgpool2.h.
#include "bn_sums.h"
#include "operators.h"
#include "parallel.h"

namespace ladderseg {
namespace LADDERSEG_ISA {

template <class T>
void bn_relu_avgpool2_forward(const BnReluAvgpool2Forward<T>& args, int threads) {
  const int64_t channels = args.input.c;
  parallel(threads, [&](int member, int team) {
    const T* __restrict mean = args.norm.mean;
    const T* __restrict scale = args.norm.scale;
    const T* __restrict shift = args.norm.shift;
    const Range range = split(args.output.pixels(), member, team);
    for (int64_t p = range.begin; p < range.end; ++p) {
      const int64_t x = p % args.output.w;
      const int64_t y = p / args.output.w % args.output.h;
      const int64_t image = p / (args.output.w * args.output.h);
      const T* __restrict a = args.input.at(image, 2 * y, 2 * x);
      const T* __restrict b = a + args.input.pixel_stride;
      const T* __restrict c = args.input.at(image, 2 * y + 1, 2 * x);
      const T* __restrict d = c + args.input.pixel_stride;
      T* __restrict output = args.output.pixel(p);
      for (int64_t i = 0; i < channels; ++i) {
        const T top = relu((a[i] - mean[i]) * scale[i] + shift[i]) + relu((b[i] - mean[i]) * scale[i] + shift[i]);
        const T bottom = relu((c[i] - mean[i]) * scale[i] + shift[i]) + relu((d[i] - mean[i]) * scale[i] + shift[i]);
        output[i] = (top + bottom) * T(0.25);
      }
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
                                           args.grad_output.at(image, y / 2, x / 2), T(0.25), args.norm, grad_input,
                                           sums.masked.in(base), sums.centred.in(base));
      } else if (!accumulate) {
        for (int64_t c = 0; c < channels; ++c) grad_input[c] = T(0);
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
