// Arguments of the kernel in prepare_norms.cu.
#pragma once

#include "arguments.h"

namespace ladderseg::cuda {

// Few channels to a block, so that the doubles, slow on consumer devices, are spread over many multiprocessors.
constexpr int kPrepareNormThreads = 32;
constexpr int kPreparedNorms = 48;  // of a launch: arguments have at most 4 KB

template <class R>
struct PreparedNorm {
  const R* running_mean;
  const R* running_variance;
  const R* gamma;
  const R* beta;
  R* norm;
  double* invstd;
  double epsilon;
  int channels;
  int first_block;  // of the norm's blocks
};

// Structs in place of an array, as in prepare_weights.h.
template <class R>
struct FourNorms {
  PreparedNorm<R> a, b, c, d;
};
template <class R>
struct SixteenNorms {
  FourNorms<R> a, b, c, d;
};
template <class R>
struct PrepareNormsArguments {
  SixteenNorms<R> a, b, c;
  int count;

  LADDERSEG_INLINE const PreparedNorm<R>& operator[](int i) const {
    return reinterpret_cast<const PreparedNorm<R>*>(this)[i];
  }
};

}  // namespace ladderseg::cuda
