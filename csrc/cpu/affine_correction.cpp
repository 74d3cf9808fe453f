#include "operators.h"
#include "parallel.h"

namespace ladderseg {
namespace LADDERSEG_ISA {

template <class T>
void affine_correction(const AffineCorrection<T>& args, int threads) {
  parallel(threads, [&](int member, int team) {
    const int64_t channels = args.input.c;
    const T* mean = args.mean;
    const T* constant = args.constant;
    const T* slope = args.slope;
    const Range range = split(args.input.pixels(), member, team);
    for (int64_t p = range.begin; p < range.end; ++p) {
      const T* x = args.input.pixel(p);
      const T* grad = args.grad.pixel(p);
      T* output = args.output.pixel(p);
#pragma GCC ivdep
      for (int64_t c = 0; c < channels; ++c) output[c] = grad[c] - constant[c] - slope[c] * (x[c] - mean[c]);
    }
  });
}

LADDERSEG_INSTANTIATE(affine_correction, AffineCorrection)

}  // namespace LADDERSEG_ISA
}  // namespace ladderseg
