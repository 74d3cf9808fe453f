// Tables that each compilation of the kernels fills.
#pragma once

#include "ladderseg/kernels.h"

// bfloat16 is compiled by itself, for processors that multiply such elements: LADDERSEG_BFLOAT16 says that a build has
// it.
#define LADDERSEG_DECLARE_TABLES(isa)           \
  namespace isa {                               \
  extern const Kernels<float> kernels_float32;  \
  extern const Kernels<double> kernels_float64; \
  }

namespace ladderseg {
LADDERSEG_DECLARE_TABLES(baseline)
#if defined(__x86_64__)
LADDERSEG_DECLARE_TABLES(avx2)
LADDERSEG_DECLARE_TABLES(avx512)
#endif
#if defined(LADDERSEG_BFLOAT16)
namespace avx512_bf16 {
extern const Kernels<BFloat16> kernels_bfloat16;
}
#endif
}  // namespace ladderseg
