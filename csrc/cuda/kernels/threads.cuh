// A thread's number in the blocks of products, and what the compiler may do with it.
#pragma once

#include "element.cuh"
#include "product.h"

namespace ladderseg::cuda {

// threadIdx.x. The compiler learns its range, so that it divides by shifts.
LADDERSEG_DEVICE int product_thread() {
  const int thread = static_cast<int>(threadIdx.x);
  __builtin_assume(thread >= 0 && thread < kProductThreads);
  return thread;
}

// The same, but the compiler cannot tell that it is constant: so it recomputes addresses for every tile instead of
// keeping them, which would fill the registers.
LADDERSEG_DEVICE int thread_again() {
  int thread;
  asm volatile("mov.u32 %0, %%tid.x;" : "=r"(thread));
  __builtin_assume(thread >= 0 && thread < kProductThreads);
  return thread;
}

// Keeps x in a register, where the compiler would compute it again at every use.
template <class Int>
LADDERSEG_DEVICE void keep(Int& x) {
  asm volatile("" : "+r"(x));
}
LADDERSEG_DEVICE void keep(const Element*& x) { asm volatile("" : "+l"(x)); }

}  // namespace ladderseg::cuda
