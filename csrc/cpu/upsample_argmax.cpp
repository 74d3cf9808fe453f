// Labels at full resolution from class scores at low resolution: see ladderseg/upsample_argmax.h.
#include <cstring>
#include <type_traits>

#include "bilinear.h"
#include "operators.h"
#include "parallel.h"

namespace ladderseg {
namespace LADDERSEG_ISA {
namespace {

// Integers beside a vector of real numbers.
template <class Real>
struct IntegersOf {
  using Integer = std::conditional_t<sizeof(Real) == 4, int32_t, int64_t>;
  typedef Integer Vector __attribute__((vector_size(LADDERSEG_VECTOR_BYTES)));
};

// Pixels of one vector: what they read in a line of scores, counted from `first`.
template <class Real>
struct Columns {
  static constexpr int64_t lanes = Simd<Real>::lanes;
  using Integers = typename IntegersOf<Real>::Vector;
  int64_t first;
  Integers lower, upper;
  typename Simd<Real>::Vector weight;

  // Beyond `count` pixels, the last one.
  template <class T>
  LADDERSEG_INLINE Columns(const BilinearAxis<T>& axis, int64_t x, int64_t count) : first(axis.lower[x]) {
    for (int64_t i = 0; i < lanes; ++i) {
      const int64_t at = x + (count == lanes ? i : smaller(i, count - 1));
      lower[i] = axis.lower[at] - first;
      upper[i] = axis.upper[at] - first;
      weight[i] = axis.weight[at];
    }
  }

  // Whether one vector of scores has all that they read.
  LADDERSEG_INLINE bool near() const { return upper[lanes - 1] < lanes; }
};

// Element i is values[from[i]], with from[i] below the number of lanes.
template <class Vector, class Integers>
LADDERSEG_INLINE Vector permuted(Vector values, Integers from) {
#if defined(__clang__)
  return __builtin_shufflevector(values, from);
#else
  return __builtin_shuffle(values, from);
#endif
}

// Labels of one vector of pixels from lines of scores, class k's at line + k * stride.
template <bool near, class Real>
LADDERSEG_INLINE typename IntegersOf<Real>::Vector label(int64_t classes, const Real* line, int64_t stride,
                                                         const Columns<Real>& columns) {
  using Vector = typename Simd<Real>::Vector;
  using Integers = typename IntegersOf<Real>::Vector;
  Vector best = Vector{} - static_cast<Real>(__builtin_inf());
  Integers arg = {};
  const Vector rest = static_cast<Real>(1) - columns.weight;
  for (int64_t k = 0; k < classes; ++k) {
    const Real* const scores = line + k * stride + columns.first;
    Vector a, b;
    if constexpr (near) {
      const Vector window = load(scores);
      a = permuted(window, columns.lower);
      b = permuted(window, columns.upper);
    } else {
      for (int64_t i = 0; i < Columns<Real>::lanes; ++i) {
        a[i] = scores[columns.lower[i]];
        b[i] = scores[columns.upper[i]];
      }
    }
    const Vector value = rest * a + columns.weight * b;
    // The first NaN beats everything.
    const auto better = ~(value <= best) & (best == best);
    best = better ? value : best;
    arg = better ? Integers{} + static_cast<typename IntegersOf<Real>::Integer>(k) : arg;
  }
  return arg;
}

// The rows of the scores that an upsampled row lies between, class by class: vectors run along pixels. Rows that follow
// one another mostly lie between the same.
template <class T>
struct ScoreLines {
  using Real = RealOf<T>;
  int64_t stride;  // from class to class; a vector may be read from any pixel on
  Region<Real> lines[2];
  Region<int64_t> rows;  // [2], which they are

  ScoreLines(ScratchLayout& layout, const FeatureMap<const T>& scores)
      : stride(round_up<int64_t>(scores.w, Simd<T>::lanes) + Simd<T>::lanes),
        lines{layout.add<Real>(scores.c * stride), layout.add<Real>(scores.c * stride)},
        rows(layout.add<int64_t>(2)) {}

  LADDERSEG_INLINE void start(char* base) const { rows.in(base)[0] = rows.in(base)[1] = -1; }

  // Line of a row of the scores; the line of row `other` stays.
  LADDERSEG_INLINE const Real* line(char* base, const FeatureMap<const T>& scores, int64_t row, int64_t other) const {
    int64_t* const held = rows.in(base);
    for (int i = 0; i < 2; ++i)
      if (held[i] == row) return lines[i].in(base);
    const int replaced = held[0] == other ? 1 : 0;
    Real* const to = lines[replaced].in(base);
    for (int64_t x = 0; x < scores.w; ++x)
      for (int64_t k = 0; k < scores.c; ++k) to[k * stride + x] = scores.pixel(row * scores.w + x)[k];
    held[replaced] = row;
    return to;
  }
};

}  // namespace

template <class T>
void upsample_argmax(const UpsampleArgmax<T>& args, int threads) {
  using Real = RealOf<T>;
  constexpr int64_t lanes = Simd<Real>::lanes;
  typedef uint8_t Labels __attribute__((vector_size(lanes)));
  const FeatureMap<const T>& scores = args.scores;
  ScratchLayout shared;
  const BilinearAxisScratch<T> vertical_scratch(shared, args.height), horizontal_scratch(shared, args.width);
  ScratchLayout own;
  const ScoreLines<T> lines(own, scores);
  const Region<Real> blended = own.add<Real>(scores.c * lines.stride);
  char* const scratch = reserve_scratch(shared.bytes + threads * own.bytes);
  const BilinearAxis<T> vertical = vertical_scratch.fill(scratch, scores.h, args.height, args.align_corners);
  const BilinearAxis<T> horizontal = horizontal_scratch.fill(scratch, scores.w, args.width, args.align_corners);

  parallel(threads, [&](int member, int team) {
    char* const base = scratch + shared.bytes + member * own.bytes;
    lines.start(base);
    Real* const line = blended.in(base);
    const Range rows = split(scores.n * args.height, member, team);
    for (int64_t row = rows.begin; row < rows.end; ++row) {
      const int64_t image = row / args.height, y = row % args.height;
      const int64_t lower = image * scores.h + vertical.lower[y], upper = image * scores.h + vertical.upper[y];
      const Real* const a = lines.line(base, scores, lower, upper);
      const Real* const b = lines.line(base, scores, upper, lower);
      for (int64_t k = 0; k < scores.c; ++k)
        blend(scores.w, a + k * lines.stride, b + k * lines.stride, vertical.weight[y], line + k * lines.stride);
      uint8_t* const labels = args.labels + row * args.width;
      for (int64_t x = 0; x < args.width; x += lanes) {
        const int64_t count = smaller(lanes, args.width - x);
        const Columns<Real> columns(horizontal, x, count);
        const auto found = columns.near() ? label<true>(scores.c, line, lines.stride, columns)
                                          : label<false>(scores.c, line, lines.stride, columns);
        const Labels narrow = __builtin_convertvector(found, Labels);
        std::memcpy(labels + x, &narrow, count);
      }
    }
  });
}

LADDERSEG_INSTANTIATE(upsample_argmax)

}  // namespace LADDERSEG_ISA
}  // namespace ladderseg
