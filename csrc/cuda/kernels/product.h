// The sizes of the tiles of products, for the kernels and their launchers.
#pragma once

namespace ladderseg::cuda {

constexpr int kProductThreads = 256;

// Columns of narrow tiles, for results with no more columns.
constexpr int kNarrowColumns = 32;

// Rows and columns of a tile of the result. Sums take 64 registers of a thread where everything else fits beside them
// (two blocks to a multiprocessor have 128 a thread), else 32: float64 are two registers, tf32 needs more room on its
// way, and so do 16-bit elements on the ordinary units.
constexpr int product_rows(int element_bytes, bool tensor) { return element_bytes == 8 && !tensor ? 64 : 128; }
constexpr int product_columns(int element_bytes, bool tensor) { return element_bytes == (tensor ? 2 : 4) ? 128 : 64; }

// Backward, two maps are read for each side, or more is done with the result: sums take 32 registers.
constexpr int kBackwardColumns = 64;

// Depth of one step: the number of products summed.
constexpr int product_depth(int element_bytes, bool tensor) {
  return tensor ? 64 / element_bytes : element_bytes == 2 ? 16 : 8;
}

}  // namespace ladderseg::cuda
