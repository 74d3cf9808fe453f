// Sums of losses over a thread's pixels and over a block.
#pragma once

#include "element.cuh"

namespace ladderseg::cuda {

constexpr int kLossRows = 16;  // so many losses of a thread are summed as Reals

LADDERSEG_DEVICE void merge(double& sum, double other) { sum += other; }

// A sum over the block's threads, in a fixed order; the result is that of thread 0.
template <int threads, class T>
LADDERSEG_DEVICE T block_sum(T value, T* shared) {
  shared[threadIdx.x] = value;
  for (int half = threads / 2; half > 0; half /= 2) {
    __syncthreads();
    if (threadIdx.x < half) {
      merge(value, shared[threadIdx.x + half]);
      shared[threadIdx.x] = value;
    }
  }
  return value;
}

// The losses of a thread's pixels.
struct LossSum {
  double total;
  Real run;
  int rows;

  LADDERSEG_DEVICE void add(Real loss) { run += loss; }
  LADDERSEG_DEVICE void end_row() {
    if (++rows < kLossRows) return;
    total += static_cast<double>(run);
    run = Real(0);
    rows = 0;
  }
  LADDERSEG_DEVICE double result() const { return total + static_cast<double>(run); }
};

}  // namespace ladderseg::cuda
