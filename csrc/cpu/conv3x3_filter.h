// Which of the minimal filters a 3x3 convolution takes.
#pragma once

#include "winograd.h"

namespace ladderseg {
namespace LADDERSEG_ISA {

// Transforming a weight takes as long as its products in this many tiles.
constexpr int64_t kTransformTiles = 14;
// Products of channels from which on the weights of 4 x 4 tiles, 144 bytes for each, would be most of a step's memory.
constexpr int64_t kLargeWeight = 1 << 17;

// Products per pair of an input and an output channel, with the transform of its weight.
template <class Filter>
LADDERSEG_INLINE int64_t products_of_pair(int64_t images, int64_t height, int64_t width, int64_t dilation) {
  return kPoints<Filter> * (TileGrid(images, height, width, dilation, Filter::results).count() + kTransformTiles);
}

// Calls body(Filter{}) with F(4 x 4, 3x3) unless the map is so small that F(2 x 2, 3x3) has less to do, or the
// weights are too large.
template <class Body>
LADDERSEG_INLINE void with_filter(int64_t images, int64_t height, int64_t width, int64_t dilation, int64_t inputs,
                                  int64_t outputs, const Body& body) {
  using Small = MinimalFilter<2>;
  using Large = MinimalFilter<4>;
  if (inputs * outputs < kLargeWeight && products_of_pair<Large>(images, height, width, dilation) <=
                                             products_of_pair<Small>(images, height, width, dilation))
    body(Large{});
  else
    body(Small{});
}

}  // namespace LADDERSEG_ISA
}  // namespace ladderseg
