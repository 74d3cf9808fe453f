// Class scores at full resolution, computed from a tile of the coarse map when they are needed.
//
// A block has kScoreThreads threads, each with one fine column. A row of coarse scores is staged in shared memory, and
// a thread blends its two columns of it once per coarse row, into registers: kClasses numbers for the row above and as
// many for the row below. A score at full resolution then costs a multiplication and an addition, and no memory access.
#pragma once

#include "bilinear.cuh"

namespace ladderseg::cuda {

constexpr int kScoreThreads = 128;
constexpr int kScoreWarps = kScoreThreads / 32;
constexpr int kStagedPixels = 66;  // of a coarse row; the launchers choose tiles that read no more

// An odd number of banks from pixel to pixel: threads that read the same class of different pixels do not collide.
template <int kClasses>
struct StagedRow {
  Real scores[kStagedPixels][kClasses | 1];
};

// Classes first .. first + count of `pixel_count` pixels of a coarse row. A warp takes a pixel, its lanes the classes;
// beyond `count` are copies of the first class, which change no maximum.
template <int kClasses>
LADDERSEG_DEVICE void stage_row(const FeatureMap<const Element>& map, int64 image, int row, int column, int pixel_count,
                                int64 first, int count, StagedRow<kClasses>& to) {
  static_assert(kClasses <= 32, "a lane has one class");
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  if (lane >= kClasses) return;
  const Element* const from = map.pixel((image * map.h + row) * map.w + column) + first + (lane < count ? lane : 0);
#pragma unroll 4
  for (int i = warp; i < pixel_count; i += kScoreWarps) to.scores[i][lane] = to_real(from[i * map.pixel_stride]);
}

// One fine column of a staged row.
template <int kClasses>
LADDERSEG_DEVICE void blend_column(const StagedRow<kClasses>& row, int lower, int upper, Real weight,
                                   Real (&to)[kClasses]) {
  const Real rest = Real(1) - weight;
#pragma unroll
  for (int k = 0; k < kClasses; ++k) to[k] = blend(row.scores[lower][k], row.scores[upper][k], rest, weight);
}

LADDERSEG_DEVICE Real infinity() { return static_cast<Real>(__int_as_float(0x7f800000)); }

// exp(x) for x <= 0, and NaN for NaN. In float: the instruction ex2 (2 ulp) of x * log2(e), whose rounding adds a
// relative error of |x| * 6e-8; as a share of the largest term, 1, that is 2.2e-8 at most.
LADDERSEG_DEVICE float exp_nonpositive(float x) {
  float result;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x * 1.4426950408889634f));
  return result;
}
LADDERSEG_DEVICE double exp_nonpositive(double x) { return exp(x); }

LADDERSEG_DEVICE float natural_log(float x) { return logf(x); }
LADDERSEG_DEVICE double natural_log(double x) { return log(x); }

LADDERSEG_DEVICE float larger(float a, float b) { return fmaxf(a, b); }
LADDERSEG_DEVICE double larger(double a, double b) { return fmax(a, b); }

}  // namespace ladderseg::cuda
