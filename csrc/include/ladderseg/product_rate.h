// Upper bound of the products' speed: the microkernel alone, on operands in the first-level cache.
//
// Each member of the team does `repeats` products of rows x depth by depth x columns.
#pragma once

#include <cstdint>

namespace ladderseg {

template <class T>
struct ProductRate {
  int64_t repeats;
  double* operations;  // scalar: multiplications and additions of the whole team
};

}  // namespace ladderseg
