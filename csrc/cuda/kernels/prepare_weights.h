// Arguments of the kernel in prepare_weights.cu.
#pragma once

#include "arguments.h"
#include "ladderseg/weight_form.h"

namespace ladderseg::cuda {

constexpr int kPrepareThreads = 256, kPreparePairs = 4;  // pairs of output and channel of a thread
constexpr int kPreparedWeights = 64;                     // of a launch: arguments have at most 4 KB

template <class T>
struct PreparedWeight {
  const void* source;   // [outputs, channels, taps]
  T* prepared;          // plain [rows, columns, taps], forward [rows, taps, columns] or backward [taps, rows, columns]
  int64 source_stride;  // elements from output to output
  int outputs, channels, taps;
  int rows, columns;  // outputs and channels, with those that are zero
  WeightForm form;
  int real;         // whether the source has the type of vectors, else that of maps
  int first_block;  // of the weight's blocks
};

// Structs in place of an array: whoever records a launch finds the pointers by the fields' types.
template <class T>
struct FourWeights {
  PreparedWeight<T> a, b, c, d;
};
template <class T>
struct SixteenWeights {
  FourWeights<T> a, b, c, d;
};
template <class T>
struct PrepareWeightsArguments {
  SixteenWeights<T> a, b, c, d;
  int count;

  LADDERSEG_INLINE const PreparedWeight<T>& operator[](int i) const {
    return reinterpret_cast<const PreparedWeight<T>*>(this)[i];
  }
};

}  // namespace ladderseg::cuda
