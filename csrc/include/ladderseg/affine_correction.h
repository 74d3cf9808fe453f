// The deferred batch norm correction (ALGORITHMS.md section 4) as a pass of its own.
#pragma once

#include "feature_map.h"

namespace ladderseg {

template <class T, class R = RealOf<T>>
struct AffineCorrection {
  Gradient<T, R> gradient;  // [P, C], with an input
  FeatureMap<T> output;     // [P, C]; may be the gradient itself
};

}  // namespace ladderseg
