// The tiles by which a CPU computes a 3x3 convolution (csrc/cpu/winograd.h), and how large they are.
#pragma once

#include "feature_map.h"

namespace ladderseg {

// The tiles of a map, `side` x `side` pixels each. With dilation d, the pixels (i * d + a, j * d + b) of each phase
// (a, b) form a map of their own.
struct TileGrid {
  int64 images, height, width, dilation, side;
  int64 rows, columns;  // tiles of a phase; the last phases' may lie outside

  LADDERSEG_INLINE TileGrid(int64 images, int64 height, int64 width, int64 dilation, int64 side)
      : images(images),
        height(height),
        width(width),
        dilation(dilation),
        side(side),
        rows((height + side * dilation - 1) / (side * dilation)),
        columns((width + side * dilation - 1) / (side * dilation)) {}

  LADDERSEG_INLINE int64 count() const { return images * dilation * dilation * rows * columns; }

  // Multiplications per pair of an input and an output channel, for a tile of side + 2 inputs in both directions.
  LADDERSEG_INLINE int64 products(int64 tiles) const { return (side + 2) * (side + 2) * tiles; }
};

// The tiles of a convolution with `inputs` and `outputs` channels: of 4 x 4 pixels, which take 36 multiplications
// instead of 144, or of 2 x 2, which take 16 instead of 36. The latter have less to do on few pixels, as fewer of
// their pixels lie outside and weights are transformed to fewer numbers. And transformed weights that are large would
// be much of a step's memory: a member of the team has as many sums of the weight gradient. If tiles and filters are
// `rounded` to 16 bits after their transform, the tiles are small too, because larger ones magnify that.
//
// The number of images does not matter: the two tiles round in different ways, and the results of an image have the
// same bits in any batch.
LADDERSEG_INLINE TileGrid conv3x3_tiles(int64 images, int64 height, int64 width, int64 dilation, int64 inputs,
                                        int64 outputs, bool rounded = false) {
  // Transforming a weight takes as long as its products in this many tiles.
  constexpr int64 transform = 14;
  constexpr int64 large_weight = 1 << 17;
  // Between the least and usual batches of training.
  constexpr int64 some_images = 2;
  const TileGrid small(some_images, height, width, dilation, 2), large(some_images, height, width, dilation, 4);
  const bool small_is_less = small.products(small.count() + transform) < large.products(large.count() + transform);
  const bool takes_small = rounded || small_is_less || inputs * outputs >= large_weight;
  return TileGrid(images, height, width, dilation, takes_small ? 2 : 4);
}

}  // namespace ladderseg
