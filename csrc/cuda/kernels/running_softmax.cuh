// A softmax whose classes arrive in groups.
#pragma once

#include "upsampled_scores.cuh"

namespace ladderseg::cuda {

constexpr int kGroup = sizeof(Real) == 8 ? 8 : 20;  // classes at a time, where there are too many for registers

// Some classes: first .. first + count.
struct Classes {
  int first, count;
};

// Nothing but the sum of the terms.
struct NoOtherSums {
  LADDERSEG_DEVICE void rebase(Real, Real) {}
  LADDERSEG_DEVICE void add(int, Real, Real) {}
};

// exp(score - maximum) is summed with the largest score so far as maximum.
struct RunningSoftmax {
  Real maximum, sum, at_label;
  int label;

  // `others` sees every term with its score, taken from the largest so far; and when that rises, by how much, and the
  // factor by which terms so far change.
  template <class OtherSums>
  LADDERSEG_DEVICE void add(const Real (&value)[kGroup], Classes classes, OtherSums& others) {
    Real highest = maximum;
#pragma unroll
    for (int k = 0; k < kGroup; ++k) highest = larger(highest, value[k]);
    // While all scores are minus infinity, their terms are zero.
    const Real offset = highest == -infinity() ? Real(0) : highest;
    const Real factor = exp_nonpositive(maximum - offset);
    sum *= factor;
    others.rebase(factor, offset - (maximum == -infinity() ? Real(0) : maximum));
#pragma unroll
    for (int k = 0; k < kGroup; ++k) {
      if (k < classes.count) {
        const Real score = value[k] - offset, term = exp_nonpositive(score);
        sum += term;
        others.add(k, term, score);
      }
      at_label = classes.first + k == label ? value[k] : at_label;
    }
    maximum = highest;
  }
  // As if there had been one group.
  LADDERSEG_DEVICE void finish() {
    if (maximum == -infinity()) sum = maximum - maximum;
  }
};

}  // namespace ladderseg::cuda
