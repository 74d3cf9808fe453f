// Exports winograd.h to test_winograd.py, for tiles of `side` x `side` pixels. Points are [points][tiles][channels].
#include "winograd.h"

#include "exports.h"

using namespace ladderseg;
using namespace ladderseg::LADDERSEG_ISA;

namespace {

// body(Filter{}) for the filter whose tiles have `side` x `side` pixels.
template <class Body>
void with_side(int64_t side, const Body& body) {
  if (side == 2)
    body(MinimalFilter<2>{});
  else
    body(MinimalFilter<4>{});
}

// The channels of all tiles of `grid`, a vector or a number V at a time: body(run, its first tile, c, V{}).
template <class Body>
void for_each_part(const TileGrid& grid, int64_t channels, const Body& body) {
  for_each_run(grid, 0, grid.count(), [&](const TileRun& run, int64_t first) {
    for_each_channel_vector<Element>(channels, [&](int64_t c, auto v) { body(run, first, c, v); });
  });
}

template <class Filter, bool corrected>
void write_gradient_points(const Gradient<Element>& gradient, const TileGrid& grid, int64_t first_row,
                           Element* points) {
  const GradientSource<Element, corrected> source(gradient);
  const int64_t channels = gradient.grad.c;
  for_each_part(grid, channels, [&](const TileRun& run, int64_t first, int64_t c, auto v) {
    transform_gradient<Filter, decltype(v)>(source, grid, run, first_row, c, points + first * channels + c, channels,
                                            grid.count() * channels);
  });
}

}  // namespace

EXPORT int64_t tile_count(int64_t images, int64_t height, int64_t width, int64_t dilation, int64_t side) {
  return TileGrid(images, height, width, dilation, side).count();
}

// Side of the tiles that a convolution of these sizes takes.
EXPORT int64_t chosen_side(int64_t images, int64_t height, int64_t width, int64_t dilation, int64_t inputs,
                           int64_t outputs) {
  return conv3x3_tiles(images, height, width, dilation, inputs, outputs).side;
}

// [image, y, x] of the first pixel of tiles first, ..., first + count - 1.
EXPORT void first_pixels(int64_t images, int64_t height, int64_t width, int64_t dilation, int64_t side, int64_t first,
                         int64_t count, int64_t* to) {
  for_each_run(TileGrid(images, height, width, dilation, side), first, count, [&](const TileRun& run, int64_t done) {
    for (int64_t t = 0; t < run.tiles; ++t) {
      int64_t* pixel = to + 3 * (done + t);
      pixel[0] = run.image;
      pixel[1] = run.y;
      pixel[2] = run.x + side * t * dilation;
    }
  });
}

// B^T d B of relu((x - mean) * scale + shift), x being a map [n, h, w, c] with `stride` elements a pixel. The tiles are
// those of its `grid_height` rows from `first_row` on.
EXPORT void input_points(const Element* x, int64_t n, int64_t h, int64_t w, int64_t c, int64_t stride,
                         const Element* mean, const Element* scale, const Element* shift, int64_t first_row,
                         int64_t grid_height, int64_t dilation, int64_t side, Element* points) {
  const NormalisedSource<Element> source{{x, n, h, w, c, stride}, {mean, scale, shift}};
  const TileGrid grid(n, grid_height, w, dilation, side);
  with_side(side, [&](auto filter) {
    for_each_part(grid, c, [&](const TileRun& run, int64_t first, int64_t channel, auto v) {
      transform_input<decltype(filter), decltype(v)>(source, run, first_row, dilation, channel,
                                                     points + first * c + channel, c, grid.count() * c);
    });
  });
}

// A g A^T of g = grad - constant - slope * (x - mean), or of grad where `x` is null.
EXPORT void gradient_points(const Element* grad, const Element* x, int64_t n, int64_t h, int64_t w, int64_t c,
                            int64_t stride, const Element* mean, const Element* constant, const Element* slope,
                            int64_t first_row, int64_t grid_height, int64_t dilation, int64_t side, Element* points) {
  const Gradient<Element> gradient{{grad, n, h, w, c, stride}, {x, n, h, w, c, stride}, mean, constant, slope};
  const TileGrid grid(n, grid_height, w, dilation, side);
  with_side(side, [&](auto filter) {
    if (x == nullptr)
      write_gradient_points<decltype(filter), false>(gradient, grid, first_row, points);
    else
      write_gradient_points<decltype(filter), true>(gradient, grid, first_row, points);
  });
}

// A^T m A: pixels [tiles][side * side][channels].
EXPORT void output_pixels(const Element* points, int64_t tiles, int64_t channels, int64_t side, Element* to) {
  with_side(side, [&](auto filter) {
    constexpr int64_t pixels = kTilePixels<decltype(filter)>;
    for (int64_t t = 0; t < tiles; ++t)
      for_each_channel_vector<Element>(channels, [&](int64_t c, auto v) {
        using V = decltype(v);
        V pixel[pixels];
        transform_output<decltype(filter)>(points + t * channels + c, tiles * channels, pixel);
        for (int64_t i = 0; i < pixels; ++i) store_as<V>(to + (pixels * t + i) * channels + c, pixel[i]);
      });
  });
}

// G w G^T of `count` filters, `stride` elements apart: [points][columns].
EXPORT void weight_points(const Element* weight, int64_t stride, int64_t count, int64_t columns, bool mirrored,
                          int64_t side, Element* to) {
  constexpr int64_t panel = RegisterBlock<Element>::columns;
  with_side(side, [&](auto filter) {
    using Filter = decltype(filter);
    for (int64_t j = 0; j < columns; j += panel) {
      Element points[kPoints<Filter> * panel];
      if (mirrored)
        pack_transformed<Filter, true>(weight + j * stride, 0, 1, stride, count - j, Range{0, 1}, points, panel);
      else
        pack_transformed<Filter, false>(weight + j * stride, 0, 1, stride, count - j, Range{0, 1}, points, panel);
      for (int64_t i = 0; i < kPoints<Filter>; ++i)
        for (int64_t k = 0; k < smaller(panel, columns - j); ++k) to[i * columns + j + k] = points[i * panel + k];
    }
  });
}

// G^T s G.
EXPORT void weight_gradient(const double* points, int64_t side, double (&grad)[9]) {
  with_side(side, [&](auto filter) {
    double s[kPoints<decltype(filter)>];
    for (int64_t i = 0; i < kPoints<decltype(filter)>; ++i) s[i] = points[i];
    transform_weight_gradient<decltype(filter)>(s, grad);
  });
}
