// Casts the weights of convolutions to the maps' type, and reorders them for the kernels of CUDA devices: many weights
// in a few launches.
//
// With C' and K', C and K rounded up to whole chunks of 16 bytes and zeros in between, weight [K, C, taps] becomes
//
//   plain      [K, C, taps]
//   forward    [K, taps, C']
//   backward   [taps, K', C']
#pragma once

#include <vector>

#include "feature_map.h"
#include "weight_form.h"

namespace ladderseg {

template <class T>
struct UnpreparedWeight {
  const void* source;  // [K, C, taps], each output's contiguous
  int real;            // whether it has the type of weight gradients, else that of maps
  int64_t stride;      // elements from output to output
  int64_t outputs, channels, taps;
  WeightForm form;
  T* prepared;
};

template <class T>
struct PrepareWeights {
  std::vector<UnpreparedWeight<T>> weights;
};

}  // namespace ladderseg
