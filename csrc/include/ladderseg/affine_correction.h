// The deferred batch norm correction (ALGORITHMS.md section 4), applied once for all readers of a channel:
//
//   output[p, c] = grad[p, c] - constant[c] - slope[c] * (x[p, c] - mean[c])
#pragma once

#include "feature_map.h"

namespace ladderseg {

template <class T>
struct AffineCorrection {
  FeatureMap<const T> input;  // x [P, C]
  FeatureMap<const T> grad;   // [P, C]
  const T* mean;              // [C]
  const T* constant;          // [C]
  const T* slope;             // [C]
  FeatureMap<T> output;       // [P, C]; may be `grad` itself
};

}  // namespace ladderseg
