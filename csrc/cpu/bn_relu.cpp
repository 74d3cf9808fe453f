// BN-ReLU of a feature map, forward and backward: see ladderseg/bn_relu.h.
#include "bn_sums.h"
#include "operators.h"
#include "parallel.h"

namespace ladderseg {
namespace LADDERSEG_ISA {

// Pixels whose sums are kept in the type of arithmetic before they go to the double totals.
constexpr int64_t kFlush = 64;

template <class T>
void bn_relu_forward(const BnReluForward<T>& args, int threads) {
  parallel(threads, [&](int member, int team) {
    const Range range = split(args.input.pixels(), member, team);
    for (int64_t p = range.begin; p < range.end; ++p)
      bn_relu_pixel(args.input.c, args.input.pixel(p), args.norm, args.output.pixel(p));
  });
}

template <bool accumulate, class T>
void bn_relu_backward_range(const BnReluBackward<T>& args, Range range, const BnSumsScratch<T>& sums, char* base) {
  const int64_t channels = args.input.c;
  sums.start(base, channels);
  for (int64_t begin = range.begin; begin < range.end; begin += kFlush) {
    const int64_t end = smaller(begin + kFlush, range.end);
    for (int64_t p = begin; p < end; ++p)
      bn_relu_backward_pixel<accumulate>(channels, args.input.pixel(p), args.grad_output.pixel(p), RealOf<T>(1),
                                         args.norm, args.grad_input.pixel(p), sums.masked.in(base),
                                         sums.centred.in(base));
    sums.flush(base, channels);
  }
}

template <class T>
void bn_relu_backward(const BnReluBackward<T>& args, int threads) {
  const int64_t channels = args.input.c;
  ScratchLayout own;
  const BnSumsScratch<T> sums(own, channels);
  char* const scratch = reserve_scratch(threads * own.bytes);
  const auto base_of = [&](int member) { return scratch + member * own.bytes; };

  parallel(threads, [&](int member, int team) {
    const Range range = split(args.input.pixels(), member, team, kFlush);
    if (args.accumulate)
      bn_relu_backward_range<true>(args, range, sums, base_of(member));
    else
      bn_relu_backward_range<false>(args, range, sums, base_of(member));
    barrier(team);
    if (member == 0) sums.finish(team, base_of, channels, args.sums);
  });
}

LADDERSEG_INSTANTIATE(bn_relu_forward)
LADDERSEG_INSTANTIATE(bn_relu_backward)

}  // namespace LADDERSEG_ISA
}  // namespace ladderseg
