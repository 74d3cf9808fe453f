// The kernels (ladderseg/kernels.def) as functions of one instruction set: each is defined and instantiated in the file
// of its operator.
#pragma once

#include "ladderseg/kernels.h"

namespace ladderseg {
namespace LADDERSEG_ISA {

#define KERNEL(name, Arguments) \
  template <class T>            \
  void name(const Arguments<T>&, int threads);
#include "ladderseg/kernels.def"

}  // namespace LADDERSEG_ISA
}  // namespace ladderseg

// One line per kernel at the end of its operator's file. Instructions for bfloat16 come with AVX-512, which has the
// other types in a compilation of their own.
#if defined(__AVX512BF16__)
#define LADDERSEG_INSTANTIATE(kernel) template decltype(kernel<BFloat16>) kernel<BFloat16>;
#else
#define LADDERSEG_INSTANTIATE(kernel)             \
  template decltype(kernel<float>) kernel<float>; \
  template decltype(kernel<double>) kernel<double>;
#endif
