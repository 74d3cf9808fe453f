// Labels at full resolution from class scores at low resolution: see ladderseg/upsample_argmax.h.
#include "bilinear.h"
#include "operators.h"
#include "parallel.h"

namespace ladderseg {
namespace LADDERSEG_ISA {

// Pixels labelled together: their running maxima stay in the first-level cache during all classes.
constexpr int64_t kRun = 256;

// The class loop is outermost and vectors run along pixels, so a row of scores is kept class by class: line[k][x].
// `value`, `best` and `arg` hold kRun elements, a whole number of vectors.
template <class T>
LADDERSEG_INLINE void label_run(int64_t classes, int64_t coarse_width, const RealOf<T>* line, Range run,
                                const BilinearAxis<T>& horizontal, RealOf<T>* __restrict value,
                                RealOf<T>* __restrict best, RealOf<T>* __restrict arg, uint8_t* labels) {
  using Real = RealOf<T>;
  using Vector = typename Simd<T>::Vector;
  const int64_t count = run.end - run.begin;
  const int64_t* __restrict lower = horizontal.lower + run.begin;
  const int64_t* __restrict upper = horizontal.upper + run.begin;
  const Real* __restrict weight = horizontal.weight + run.begin;
  for (int64_t x = 0; x < kRun; ++x) best[x] = -__builtin_inf();
  for (int64_t x = 0; x < kRun; ++x) arg[x] = value[x] = Real(0);
  for (int64_t k = 0; k < classes; ++k) {
    const Real* __restrict scores = line + k * coarse_width;
    for (int64_t x = 0; x < count; ++x)
      value[x] = (Real(1) - weight[x]) * scores[lower[x]] + weight[x] * scores[upper[x]];
    const Vector label = Vector{} + static_cast<Real>(k);
    for (int64_t x = 0; x < count; x += Simd<T>::lanes) {
      const Vector v = load(value + x), before = load(best + x);
      // The first NaN beats everything.
      const auto better = (v > before) | ((v != v) & (before == before));
      store(best + x, better ? v : before);
      store(arg + x, better ? label : load(arg + x));
    }
  }
  for (int64_t x = 0; x < count; ++x) labels[run.begin + x] = static_cast<uint8_t>(static_cast<int>(arg[x]));
}

template <class T>
void upsample_argmax(const UpsampleArgmax<T>& args, int threads) {
  const FeatureMap<const T>& scores = args.scores;
  const int64_t classes = scores.c;
  ScratchLayout shared;
  const BilinearAxisScratch<T> vertical_scratch(shared, args.height), horizontal_scratch(shared, args.width);
  ScratchLayout own;
  using Real = RealOf<T>;
  const Region<Real> line = own.add<Real>(classes * scores.w);
  const Region<Real> value = own.add<Real>(kRun), best = own.add<Real>(kRun), arg = own.add<Real>(kRun);
  char* const scratch = reserve_scratch(shared.bytes + threads * own.bytes);
  const BilinearAxis<T> vertical = vertical_scratch.fill(scratch, scores.h, args.height, args.align_corners);
  const BilinearAxis<T> horizontal = horizontal_scratch.fill(scratch, scores.w, args.width, args.align_corners);

  parallel(threads, [&](int member, int team) {
    char* const base = scratch + shared.bytes + member * own.bytes;
    Real* const blended = line.in(base);
    const Range rows = split(scores.n * args.height, member, team);
    for (int64_t row = rows.begin; row < rows.end; ++row) {
      const int64_t image = row / args.height, y = row % args.height;
      const Real weight = vertical.weight[y];
      for (int64_t x = 0; x < scores.w; ++x) {
        const T* a = scores.at(image, vertical.lower[y], x);
        const T* b = scores.at(image, vertical.upper[y], x);
        for (int64_t k = 0; k < classes; ++k) blended[k * scores.w + x] = (Real(1) - weight) * a[k] + weight * b[k];
      }
      uint8_t* labels = args.labels + row * args.width;
      for (int64_t x = 0; x < args.width; x += kRun)
        label_run<T>(classes, scores.w, blended, Range{x, smaller(x + kRun, args.width)}, horizontal, value.in(base),
                     best.in(base), arg.in(base), labels);
    }
  });
}

LADDERSEG_INSTANTIATE(upsample_argmax)

}  // namespace LADDERSEG_ISA
}  // namespace ladderseg
