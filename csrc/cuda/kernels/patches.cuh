// The pixels of a patch: see patches.h.
#pragma once

#include "element.cuh"
#include "patches.h"

namespace ladderseg::cuda {

LADDERSEG_DEVICE int quotient(int number, const Divisor& divisor) {
  const unsigned long long product =
      static_cast<unsigned long long>(static_cast<unsigned>(number)) * divisor.multiplier;
  return static_cast<int>(product >> divisor.shift);
}

// A patch of height x width pixels. Its pixel (i, j) is the strip's at row(i), column(j); the frame around the patch
// has rows and columns -1 and height or width.
template <int height, int width>
struct Patch {
  static constexpr int kHeight = height, kWidth = width, kPixels = height * width;

  int image, y, x;  // of pixel (0, 0), in the strip
  int step;
  int h, w;  // of the strip

  LADDERSEG_DEVICE static Patch of(const PatchGrid& grid, int number) {
    const int line = quotient(number, grid.across), patch_x = number - line * grid.across.value;
    const int group = quotient(line, grid.down), patch_y = line - group * grid.down.value;
    const int classes = quotient(group, grid.classes_x), class_x = group - classes * grid.classes_x.value;
    const int image = quotient(classes, grid.classes_y), class_y = classes - image * grid.classes_y.value;
    return {image, class_y + patch_y * height * grid.step, class_x + patch_x * width * grid.step, grid.step, grid.h,
            grid.w};
  }

  LADDERSEG_DEVICE int row(int i) const { return y + i * step; }
  LADDERSEG_DEVICE int column(int j) const { return x + j * step; }

  // Whether pixel (i, j) of the patch is one of the strip.
  LADDERSEG_DEVICE bool inside(int i, int j) const { return row(i) < h && column(j) < w; }

  // The number of pixel (i, j), which is inside, among those of a map that consists of strips like this.
  LADDERSEG_DEVICE int64 pixel(int i, int j) const { return (static_cast<int64>(image) * h + row(i)) * w + column(j); }

  // The number of pixel (i, j) among those of a map with images of `map_rows` rows, in which the strip begins with row
  // `first_row`; or -1 if it is outside of the map.
  LADDERSEG_DEVICE int64 pixel_of(int64 map_rows, int64 first_row, int i, int j) const {
    const int64 map_row = row(i) + first_row;
    const int map_column = column(j);
    if (map_row < 0 || map_row >= map_rows || map_column < 0 || map_column >= w) return -1;
    return (image * map_rows + map_row) * w + map_column;
  }

  // How many pixels of the patch are in the strip.
  LADDERSEG_DEVICE int pixels() const { return extent(h - y, height) * extent(w - x, width); }

 private:
  // How many of `most` positions, `step` apart, are below `length`.
  LADDERSEG_DEVICE int extent(int length, int most) const {
    return length <= 0 ? 0 : min((length - 1) / step + 1, most);
  }
};

}  // namespace ladderseg::cuda
