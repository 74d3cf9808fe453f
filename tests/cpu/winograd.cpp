// Exports winograd.h to test_winograd.py. Points are [16][tiles][channels].
#include "winograd.h"

#include "exports.h"

using namespace ladderseg;
using namespace ladderseg::LADDERSEG_ISA;

namespace {

// The channels of all tiles of `grid`, a vector or a number V at a time: body(run, its first tile, c, V{}).
template <class Body>
void for_each_part(const TileGrid& grid, int64_t channels, const Body& body) {
  for_each_run(grid, 0, grid.count(), [&](const TileRun& run, int64_t first) {
    for_each_channel_vector<Element>(channels, [&](int64_t c, auto v) { body(run, first, c, v); });
  });
}

template <bool corrected>
void write_gradient_points(const Gradient<Element>& gradient, const TileGrid& grid, int64_t first_row,
                           Element* points) {
  const GradientSource<Element, corrected> source(gradient);
  const int64_t channels = gradient.grad.c;
  for_each_part(grid, channels, [&](const TileRun& run, int64_t first, int64_t c, auto v) {
    transform_gradient<decltype(v)>(source, grid, run, first_row, c, points + first * channels + c, channels,
                                    grid.count() * channels);
  });
}

}  // namespace

EXPORT int64_t tile_count(int64_t images, int64_t height, int64_t width, int64_t dilation) {
  return TileGrid(images, height, width, dilation).count();
}

// [image, y, x] of the first pixel of tiles first, ..., first + count - 1.
EXPORT void first_pixels(int64_t images, int64_t height, int64_t width, int64_t dilation, int64_t first, int64_t count,
                         int64_t* to) {
  for_each_run(TileGrid(images, height, width, dilation), first, count, [&](const TileRun& run, int64_t done) {
    for (int64_t t = 0; t < run.tiles; ++t) {
      int64_t* pixel = to + 3 * (done + t);
      pixel[0] = run.image;
      pixel[1] = run.y;
      pixel[2] = run.x + 2 * t * dilation;
    }
  });
}

// B^T d B of relu((x - mean) * scale + shift), x being a map [n, h, w, c] with `stride` elements a pixel. The tiles are
// those of its `grid_height` rows from `first_row` on.
EXPORT void input_points(const Element* x, int64_t n, int64_t h, int64_t w, int64_t c, int64_t stride,
                         const Element* mean, const Element* scale, const Element* shift, int64_t first_row,
                         int64_t grid_height, int64_t dilation, Element* points) {
  const NormalisedSource<Element> source{{x, n, h, w, c, stride}, {mean, scale, shift}};
  const TileGrid grid(n, grid_height, w, dilation);
  for_each_part(grid, c, [&](const TileRun& run, int64_t first, int64_t channel, auto v) {
    transform_input<decltype(v)>(source, run, first_row, dilation, channel, points + first * c + channel, c,
                                 grid.count() * c);
  });
}

// A g A^T of g = grad - constant - slope * (x - mean), or of grad where `x` is null.
EXPORT void gradient_points(const Element* grad, const Element* x, int64_t n, int64_t h, int64_t w, int64_t c,
                            int64_t stride, const Element* mean, const Element* constant, const Element* slope,
                            int64_t first_row, int64_t grid_height, int64_t dilation, Element* points) {
  const Gradient<Element> gradient{{grad, n, h, w, c, stride}, {x, n, h, w, c, stride}, mean, constant, slope};
  const TileGrid grid(n, grid_height, w, dilation);
  if (x == nullptr)
    write_gradient_points<false>(gradient, grid, first_row, points);
  else
    write_gradient_points<true>(gradient, grid, first_row, points);
}

// A^T m A: pixels [tiles][4][channels].
EXPORT void output_pixels(const Element* points, int64_t tiles, int64_t channels, Element* to) {
  for (int64_t t = 0; t < tiles; ++t)
    for_each_channel_vector<Element>(channels, [&](int64_t c, auto v) {
      using V = decltype(v);
      V pixel[4];
      transform_output(points + t * channels + c, tiles * channels, pixel);
      for (int64_t i = 0; i < 4; ++i) store_as<V>(to + (4 * t + i) * channels + c, pixel[i]);
    });
}

// G w G^T of `count` filters, `stride` elements apart: [16][columns].
EXPORT void weight_points(const Element* weight, int64_t stride, int64_t count, int64_t columns, bool mirrored,
                          Element* to) {
  if (mirrored)
    pack_transformed<true>(weight, stride, count, columns, to, columns);
  else
    pack_transformed<false>(weight, stride, count, columns, to, columns);
}

// G^T s G.
EXPORT void weight_gradient(const double (&points)[16], double (&grad)[9]) { transform_weight_gradient(points, grad); }
