// A block's part of the fine map, in a grid of PixelTiles.
#pragma once

#include "score_tiles.h"
#include "upsampled_scores.cuh"

namespace ladderseg::cuda {

// Fine rows that a thread works on together: blended columns serve all of them. At four times the size, most pairs of
// coarse rows have exactly so many between them.
constexpr int kStripRows = 4;

struct PixelTile {
  int64 image;
  int row;              // the coarse rows are `row` and the next
  int y_begin, y_end;   // the fine rows that read them
  int y_first, y_step;  // start and step of this block's strips
  int column, pixels;   // the coarse columns that are read
  int x;                // this thread's fine column
  bool active;          // whether it has one
  int lower, upper;     // its coarse columns, counted from `column`
  Real right;           // the weight of the upper
};

LADDERSEG_DEVICE PixelTile pixel_tile(const Axis& vertical, const Axis& horizontal, const PixelTiles& tiles) {
  PixelTile tile;
  const int64 group = blockIdx.x / tiles.column_tiles, pair = group / tiles.parts;
  tile.image = pair / vertical.coarse;
  tile.row = static_cast<int>(pair - tile.image * vertical.coarse);
  tile.y_begin = cell_begin(vertical, tile.row);
  tile.y_end = cell_begin(vertical, tile.row + 1);
  tile.y_first = tile.y_begin + kStripRows * static_cast<int>(group - pair * tiles.parts);
  tile.y_step = kStripRows * static_cast<int>(tiles.parts);
  const int x_begin = static_cast<int>((blockIdx.x - group * tiles.column_tiles) * tiles.columns);
  const int x_end = static_cast<int>(smaller(x_begin + tiles.columns, horizontal.fine));
  tile.column = position(horizontal, x_begin).lower;
  tile.pixels = min(position(horizontal, x_end - 1).upper - tile.column + 1, kStagedPixels);
  tile.x = x_begin + static_cast<int>(threadIdx.x);
  tile.active = tile.x < x_end;
  const Position at = position(horizontal, tile.active ? tile.x : x_begin);
  tile.lower = at.lower - tile.column;
  tile.upper = at.upper - tile.column;
  tile.right = at.weight;
  return tile;
}

}  // namespace ladderseg::cuda
