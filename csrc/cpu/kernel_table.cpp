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

extern const Kernels<float> kernels_float32 = make_table<float>();
extern const Kernels<double> kernels_float64 = make_table<double>();

}  // namespace LADDERSEG_ISA
}  // namespace ladderseg
