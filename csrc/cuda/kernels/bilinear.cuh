// Bilinear interpolation along one axis, like csrc/cpu/bilinear.h.
//
// `fine` positions read `coarse` positions. The fine positions whose lower neighbour is coarse position c are its cell;
// a cell also reads c + 1. Cells follow one another, so the readers of c are two neighbouring cells: c - 1 and c.
#pragma once

#include "element.cuh"

namespace ladderseg::cuda {

LADDERSEG_DEVICE float fused_multiply_add(float a, float b, float c) { return __fmaf_rn(a, b, c); }
LADDERSEG_DEVICE double fused_multiply_add(double a, double b, double c) { return __fma_rn(a, b, c); }

struct Axis {
  int coarse, fine;
  Real ratio;
  Real centre;  // of a pixel, from its start: 1/2, or 0 if corners are aligned
};

LADDERSEG_DEVICE Axis make_axis(int64 coarse, int64 fine, bool align_corners = false) {
  const Real from = static_cast<Real>(align_corners ? coarse - 1 : coarse);
  const Real to = static_cast<Real>(align_corners ? fine - 1 : fine);
  return {static_cast<int>(coarse), static_cast<int>(fine), align_corners && fine == 1 ? Real(0) : from / to,
          align_corners ? Real(0) : Real(0.5)};
}

// Coarse positions `lower` and `upper`, weighted 1 - weight and weight.
struct Position {
  int lower, upper;
  Real weight;
};

// The rounding of every step is fixed, so that a position is the same wherever it is computed.
LADDERSEG_DEVICE Position position(const Axis& axis, int i) {
  Real source = fused_multiply_add(axis.ratio, static_cast<Real>(i) + axis.centre, -axis.centre);
  source = source < Real(0) ? Real(0) : source;
  const int lower = min(static_cast<int>(source), axis.coarse - 1);
  const Real weight = source - static_cast<Real>(lower);
  return {lower, min(lower + 1, axis.coarse - 1), weight > Real(1) ? Real(1) : weight};
}

// First position of cell c or of a later cell: the start of cell c, for any c. Positions never decrease, and position()
// itself tests the answer, so rounding of the estimate costs only steps.
LADDERSEG_DEVICE int cell_begin(const Axis& axis, int c) {
  if (c <= 0) return 0;
  if (c >= axis.coarse) return axis.fine;
  const Real estimate = (static_cast<Real>(c) + axis.centre) / axis.ratio - (axis.centre + Real(1));
  int i = max(0, min(axis.fine, static_cast<int>(estimate)));
  while (i > 0 && position(axis, i - 1).lower >= c) --i;
  while (i < axis.fine && position(axis, i).lower < c) ++i;
  return i;
}

// Weight of coarse position c, one of the two that p reads, in position p.
LADDERSEG_DEVICE Real weight_of(const Position& p, int c) {
  return (p.lower == c ? Real(1) - p.weight : Real(0)) + (p.upper == c ? p.weight : Real(0));
}

// a and b in the shares 1 - weight and weight.
LADDERSEG_DEVICE Real blend(Real a, Real b, Real rest, Real weight) { return fused_multiply_add(weight, b, rest * a); }

}  // namespace ladderseg::cuda
