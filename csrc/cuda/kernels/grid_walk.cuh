// Walk through the positions of a grid of images x rows x columns in equal steps, without a division per step.
#pragma once

#include "element.cuh"

namespace ladderseg::cuda {

struct GridWalk {
  int64 image;
  int row, column;

  // The position `start` in the order image, row, column; each advance() is `step` positions. There are rows and
  // columns, fewer than 2^30 of them.
  LADDERSEG_DEVICE GridWalk(int64 start, int step, int64 rows, int64 columns)
      : rows_(static_cast<int>(rows)),
        columns_(static_cast<int>(columns)),
        step_images_(step / columns_ / rows_),
        step_rows_(step / columns_ % rows_),
        step_columns_(step % columns_) {
    const int64 line = start / columns_;
    image = line / rows_;
    column = static_cast<int>(start - line * columns_);
    row = static_cast<int>(line - image * rows_);
  }

  LADDERSEG_DEVICE void advance() {
    column += step_columns_;
    row += step_rows_;
    image += step_images_;
    if (column >= columns_) {
      column -= columns_;
      ++row;
    }
    if (row >= rows_) {
      row -= rows_;
      ++image;
    }
  }

 private:
  int rows_, columns_;
  int step_images_, step_rows_, step_columns_;
};

}  // namespace ladderseg::cuda
