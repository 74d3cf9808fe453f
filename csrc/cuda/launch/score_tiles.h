// Grids of the kernels that compute scores at full resolution: see kernels/score_tiles.h.
#pragma once

#include "../kernels/score_tiles.h"
#include "maps.h"

namespace ladderseg::cuda {

constexpr unsigned kScoreThreads = 128;  // as in kernels/upsampled_scores.cuh

// Tiles for a coarse map and the size, or width, to which it is upsampled.
PixelTiles pixel_tiles(const FeatureMap<const void>& coarse, int64_t height, int64_t width, bool align_corners = false);
CoarseTiles coarse_tiles(const Queue& queue, const FeatureMap<const void>& coarse, int64_t width,
                         bool align_corners = false);

inline Size grid(const FeatureMap<const void>& coarse, const PixelTiles& tiles) {
  return {static_cast<unsigned>(coarse.n * coarse.h * tiles.parts * tiles.column_tiles)};
}
inline Size grid(const FeatureMap<const void>& coarse, const CoarseTiles& tiles) {
  return {static_cast<unsigned>(coarse.n * tiles.row_tiles * tiles.column_tiles)};
}

}  // namespace ladderseg::cuda
