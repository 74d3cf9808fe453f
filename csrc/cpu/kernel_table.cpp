// Fills the tables of one instruction set.

#include "kernel_tables.h"
#include "operators.h"

namespace ladderseg {
namespace LADDERSEG_ISA {
namespace {

template <class T>
constexpr Kernels<T> make_table() {
  return {
#define KERNEL(name, Arguments) name<T>,
#include "ladderseg/kernels.def"
  };
}

}  // namespace

#if defined(__AVX512BF16__)
extern const Kernels<BFloat16> kernels_bfloat16 = make_table<BFloat16>();
#else
extern const Kernels<float> kernels_float32 = make_table<float>();
extern const Kernels<double> kernels_float64 = make_table<double>();
#endif

}  // namespace LADDERSEG_ISA
}  // namespace ladderseg
