// Arguments of kernels. The launchers compile this header with T = R = void, because they pass addresses on; device
// code compiles it with its types. So it includes no host headers.
//
// T is the element type of maps and weights, R the type of vectors, sums and weight gradients: float, or double for
// maps of doubles. A struct of arguments is passed to its kernel unchanged.
#pragma once

#include "ladderseg/feature_map.h"

namespace ladderseg::cuda {

// Work on the columns of a map: each block has some channels and `pixels_per_block` pixels.
struct Columns {
  int64 pixels_per_block;
  int wide;  // whether all maps can be read 16 bytes at a time
};

// Arguments of a kernel that needs no others than its operator's, a struct of ladderseg/.
template <class Operator>
struct InColumns {
  Operator op;
  Columns columns;
};

}  // namespace ladderseg::cuda
