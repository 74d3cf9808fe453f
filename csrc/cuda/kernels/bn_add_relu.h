// Arguments of the backward in bn_add_relu.cu; the operators are those of ladderseg/bn_add_relu.h.
#pragma once

#include "arguments.h"
#include "ladderseg/bn_add_relu.h"

namespace ladderseg::cuda {

template <class T, class R>
struct BnAddReluBackwardArguments {
  BnAddReluBackward<T, R> op;
  R* partial_sums;           // [blocks of pixels][masked, centred][C], for bn_sums.cu
  R* shortcut_partial_sums;  // the same of the shortcut, if it has a norm
  Columns columns;           // wide: the vectors of the correction and of the shortcut's norm can be read so, too
};

}  // namespace ladderseg::cuda
