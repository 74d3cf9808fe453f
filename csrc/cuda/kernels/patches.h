// How the pixels of a strip of rows are divided among the blocks of 3x3 convolutions: into patches.
//
// A dilated 3x3 convolution is one ordinary convolution for each class of pixels whose rows and columns leave the same
// remainders when divided by the dilation. So the pixels of a patch lie `step`, the dilation, apart in both directions:
// then all taps of a patch are the patch and a frame of one pixel around it, whatever the dilation is.
#pragma once

#include "arguments.h"

namespace ladderseg::cuda {

// Divides numbers below 2^31 by `value`, without dividing.
struct Divisor {
  int value;
  unsigned multiplier;  // 2^shift / value, rounded up
  int shift;
};

// A number of a patch is, from the fastest to the slowest: its column of patches, its row of patches, the class of its
// columns, the class of its rows, its image. The classes with fewer pixels may have patches without any.
struct PatchGrid {
  int h, w;              // of the strip
  int step;              // between neighbouring pixels of a patch
  Divisor across, down;  // patches of a class in a row of patches, and rows of patches
  Divisor classes_x, classes_y;
  int64 count;  // of patches
};

}  // namespace ladderseg::cuda
