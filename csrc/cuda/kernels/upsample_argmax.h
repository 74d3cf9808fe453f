// Arguments of the kernel in upsample_argmax.cu; the operator is that of ladderseg/upsample_argmax.h.
#pragma once

#include "score_tiles.h"

namespace ladderseg::cuda {

template <class T>
struct UpsampleArgmaxArguments {
  FeatureMap<const T> scores;
  unsigned char* labels;
  int64 height, width;
  int align_corners;
  PixelTiles tiles;
};

}  // namespace ladderseg::cuda
