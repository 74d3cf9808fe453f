// The deferred batch norm correction of a gradient: see ladderseg/affine_correction.h.
#include "corrected_gradient.h"
#include "operators.h"
#include "parallel.h"

namespace ladderseg {
namespace LADDERSEG_ISA {

template <class T>
void affine_correction(const AffineCorrection<T>& args, int threads) {
  parallel(threads, [&](int member, int team) {
    const Range range = split(args.output.pixels(), member, team);
    for (int64_t p = range.begin; p < range.end; ++p)
      corrected_pixel(args.gradient, p, args.output.c, args.output.pixel(p));
  });
}

LADDERSEG_INSTANTIATE(affine_correction)

}  // namespace LADDERSEG_ISA
}  // namespace ladderseg
