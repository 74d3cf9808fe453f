// Arguments of the backward in bn_relu_patches.cu; the operators are those of ladderseg/bn_relu_patches.h.
#pragma once

#include "arguments.h"
#include "ladderseg/bn_relu_patches.h"

namespace ladderseg::cuda {

// A cell is the pixel at the centre of a patch, its right and its lower neighbour, and the one diagonally below.
template <class T, class R>
struct BnReluPatchesBackwardArguments {
  BnReluPatchesBackward<T, R> op;
  R* partial_sums;                // [blocks of cells][masked, centred][C], for bn_sums.cu
  int64 first_cell_row;           // row of patches to which the first cells belong: negative for rows above them all
  int64 cell_rows, cell_columns;  // that cover the input
  Columns columns;                // of the cells
};

}  // namespace ladderseg::cuda
