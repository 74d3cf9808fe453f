// Division of the fine map among the blocks of the kernels that compute scores at full resolution.
#pragma once

#include "arguments.h"

namespace ladderseg::cuda {

// For work without gradients. A block has `columns` fine columns, and of the rows that read one pair of coarse rows
// every `parts`-th strip. Blocks are numbered [image][pair of coarse rows][part][column tile].
struct PixelTiles {
  int64 columns, column_tiles, parts;
};

// For gradients. A block has `rows` x `columns` coarse pixels, and computes all fine pixels that read them. Blocks are
// numbered [image][row tile][column tile].
struct CoarseTiles {
  int64 rows, columns, row_tiles, column_tiles;
};

}  // namespace ladderseg::cuda
