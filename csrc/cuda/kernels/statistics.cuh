// Mean and sum of squared deviations of a channel, merged by Chan's formula: never E[x^2] - E[x]^2.
//
// The number of positions is known without counting and is the same for many channels, so it is kept apart.
#pragma once

#include "element.cuh"

namespace ladderseg::cuda {

// Zeros for no positions.
struct Statistics {
  Real mean;
  Real deviation;  // sum of (x - mean)^2
};

// Factors of Chan's formula that depend only on the numbers of positions, for any number of channels.
struct MergeWeights {
  Real share;   // of the added positions in the total
  Real weight;  // of the squared difference of the means
};

LADDERSEG_DEVICE MergeWeights merge_weights(Real into_count, Real count) {
  const Real share = count / (into_count + count);
  return {share, into_count * share};
}

// Centre to subtract from all values of a channel beforehand, so that the deviations keep their digits if the mean is
// much larger: any finite value of the channel, otherwise 0.
LADDERSEG_DEVICE Real centre(Real value) { return value - value == Real(0) ? value : Real(0); }

// Adds the statistics of at least one position. Infinite means stay infinite.
LADDERSEG_DEVICE void merge(Statistics& into, const Statistics& from, const MergeWeights& weights) {
  const Real delta = from.mean - into.mean;
  into.mean += delta - delta == Real(0) ? delta * weights.share : from.mean;
  into.deviation += from.deviation + delta * weights.weight * delta;
}

// Statistics of a power of two of values, in two passes. Values are summed in pairs, so the mean of equal values is
// exact.
template <int count>
LADDERSEG_DEVICE Statistics statistics(const Real (&values)[count]) {
  static_assert((count & (count - 1)) == 0, "a power of two");
  Real sums[count];
#pragma unroll
  for (int i = 0; i < count; ++i) sums[i] = values[i];
#pragma unroll
  for (int half = count / 2; half > 0; half /= 2)
#pragma unroll
    for (int i = 0; i < half; ++i) sums[i] += sums[i + half];
  Statistics result = {sums[0] * (Real(1) / count), Real(0)};
#pragma unroll
  for (int i = 0; i < count; ++i) {
    const Real d = values[i] - result.mean;
    result.deviation += d * d;
  }
  return result;
}

}  // namespace ladderseg::cuda
