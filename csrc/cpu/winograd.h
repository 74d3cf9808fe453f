// Minimal filtering F(m x m, 3x3) (Winograd 1980; Lavin and Gray, CVPR 2016), the one-dimensional MinimalFilter in
// both directions: a 3x3 convolution of m x m pixels takes a square of n = m + 2 inputs and n * n multiplications
// instead of 9 * m * m, exactly but for rounding:
//
//   Y = A^T [(G w G^T) * (B^T d B)] A        d: input tile, w: filter, Y: output tile, *: element by element
//
// Summed over channels, each of the n * n points is a matrix product. Y is bilinear in d and w, so the gradient of w
// takes the same multiplications: dw = G^T [(A g A^T) * (B^T d B)] G with g the gradient of Y.
#pragma once

#include "gemm.h"
#include "ladderseg/conv3x3_tiles.h"
#include "ladderseg/feature_map.h"
#include "minimal_filter.h"
#include "parallel.h"

namespace ladderseg {
namespace LADDERSEG_ISA {

// Points of a tile; point (i, j) of B^T d B is number inputs * i + j.
template <class Filter>
constexpr int64_t kPoints = Filter::inputs * Filter::inputs;

// Pixels of a tile; pixel (i, j) is number results * i + j.
template <class Filter>
constexpr int64_t kTilePixels = Filter::results * Filter::results;

// Consecutive tiles of one row: the first pixel (y, x) of the first; from tile to tile x grows by side * dilation.
struct TileRun {
  int64_t tiles, image, y, x;
};

// Splits tiles [first, first + count) into runs: body(run, number of its first tile counted from `first`).
template <class Body>
LADDERSEG_INLINE void for_each_run(const TileGrid& grid, int64_t first, int64_t count, const Body& body) {
  for (int64_t done = 0; done < count;) {
    const int64_t column = (first + done) % grid.columns, row = (first + done) / grid.columns;
    const int64_t phase = row / grid.rows % (grid.dilation * grid.dilation);
    const int64_t tiles = smaller(grid.columns - column, count - done);
    const TileRun run{tiles, row / grid.rows / (grid.dilation * grid.dilation),
                      phase / grid.dilation + row % grid.rows * grid.side * grid.dilation,
                      phase % grid.dilation + column * grid.side * grid.dilation};
    body(run, done);
    done += tiles;
  }
}

// Sources of the tiles: a source gives V channels of a pixel from c on, V being a vector or a number.

// y = relu((x - mean) * scale + shift)
template <class T>
struct NormalisedSource {
  FeatureMap<const T> map;
  Norm<RealOf<T>> norm;

  template <class V>
  struct Channels {
    const T* data;
    int64_t stride;
    V mean, scale, shift;
    LADDERSEG_INLINE V at(int64_t pixel) const {
      return relu((load_as<V>(data + pixel * stride) - mean) * scale + shift);
    }
  };
  template <class V>
  LADDERSEG_INLINE Channels<V> channels(int64_t c) const {
    return {map.data + c, map.pixel_stride, load_as<V>(norm.mean + c), load_as<V>(norm.scale + c),
            load_as<V>(norm.shift + c)};
  }
};

template <class T, bool corrected>
struct GradientSource {
  FeatureMap<const T> map;
  const Gradient<T>& gradient;

  explicit GradientSource(const Gradient<T>& gradient) : map(gradient.grad), gradient(gradient) {}

  template <class V>
  struct Channels {
    const T* grad;
    const T* x;
    int64_t grad_stride, x_stride;
    V mean, constant, slope;
    LADDERSEG_INLINE V at(int64_t pixel) const {
      const V g = load_as<V>(grad + pixel * grad_stride);
      if constexpr (corrected)
        return g - constant - slope * (load_as<V>(x + pixel * x_stride) - mean);
      else
        return g;
    }
  };
  template <class V>
  LADDERSEG_INLINE Channels<V> channels(int64_t c) const {
    if constexpr (corrected)
      return {map.data + c,
              gradient.input.data + c,
              map.pixel_stride,
              gradient.input.pixel_stride,
              load_as<V>(gradient.mean + c),
              load_as<V>(gradient.constant + c),
              load_as<V>(gradient.slope + c)};
    else
      return {map.data + c, nullptr, map.pixel_stride, 0, V{}, V{}, V{}};
  }
};

// Starts of `rows` rows, `dilation` apart, in a map: numbers of pixels, and whether the map has the row.
template <int rows>
struct RowPixels {
  int64_t pixel[rows];
  bool inside[rows];
  int64_t width;

  template <class T>
  LADDERSEG_INLINE RowPixels(const FeatureMap<const T>& map, int64_t image, int64_t first, int64_t dilation)
      : width(map.w) {
    for (int a = 0; a < rows; ++a) {
      const int64_t y = first + a * dilation;
      inside[a] = y >= 0 && y < map.h;
      pixel[a] = (image * map.h + y) * map.w;
    }
  }
};

// Values of successive points.
template <class V, class T, int n>
LADDERSEG_INLINE void store_points(const V (&point)[n], T* to, int64_t point_stride) {
#pragma GCC unroll 6
  for (int j = 0; j < n; ++j) store_as<V>(to + j * point_stride, point[j]);
}

// B^T d B of a run's tiles for V channels: point i of tile t goes to to[i * point_stride + t * tile_stride].
// `first_row` is the map's row at row 0 of the tiles' grid.
template <class Filter, class V, class Source, class T>
LADDERSEG_INLINE void transform_input(const Source& source, const TileRun& run, int64_t first_row, int64_t dilation,
                                      int64_t c, T* to, int64_t tile_stride, int64_t point_stride) {
  constexpr int n = Filter::inputs, m = Filter::results;
  const auto channels = source.template channels<V>(c);
  const RowPixels<n> rows(source.map, run.image, run.y + first_row - dilation, dilation);
  V column[n][n];
  const auto fill = [&](V(&points)[n], int64_t x) __attribute__((always_inline)) {
    V d[n] = {};
    if (x >= 0 && x < rows.width)
#pragma GCC unroll 6
      for (int a = 0; a < n; ++a)
        if (rows.inside[a]) d[a] = channels.at(rows.pixel[a] + x);
    Filter::input(d, points);
  };
  // Neighbouring tiles share two columns.
  fill(column[0], run.x - dilation);
  fill(column[1], run.x);
  for (int64_t t = 0; t < run.tiles; ++t) {
    const int64_t x = run.x + m * t * dilation;
#pragma GCC unroll 4
    for (int j = 2; j < n; ++j) fill(column[j], x + (j - 1) * dilation);
#pragma GCC unroll 6
    for (int i = 0; i < n; ++i) {
      V row[n], point[n];
#pragma GCC unroll 6
      for (int j = 0; j < n; ++j) row[j] = column[j][i];
      Filter::input(row, point);
      store_points(point, to + t * tile_stride + n * i * point_stride, point_stride);
    }
#pragma GCC unroll 6
    for (int i = 0; i < n; ++i) {
      column[0][i] = column[m][i];
      column[1][i] = column[m + 1][i];
    }
  }
}

// A g A^T of a run's tiles for V channels, laid out like transform_input's; g is zero outside `grid`.
template <class Filter, class V, class Source, class T>
LADDERSEG_INLINE void transform_gradient(const Source& source, const TileGrid& grid, const TileRun& run,
                                         int64_t first_row, int64_t c, T* to, int64_t tile_stride,
                                         int64_t point_stride) {
  constexpr int n = Filter::inputs, m = Filter::results;
  const auto channels = source.template channels<V>(c);
  const RowPixels<m> rows(source.map, run.image, run.y + first_row, grid.dilation);
  for (int64_t t = 0; t < run.tiles; ++t) {
    V column[m][n];
#pragma GCC unroll 4
    for (int j = 0; j < m; ++j) {
      const int64_t x = run.x + (m * t + j) * grid.dilation;
      V g[m] = {};
      if (x < grid.width)
#pragma GCC unroll 4
        for (int a = 0; a < m; ++a)
          if (rows.inside[a] && run.y + a * grid.dilation < grid.height) g[a] = channels.at(rows.pixel[a] + x);
      Filter::gradient(g, column[j]);
    }
#pragma GCC unroll 6
    for (int i = 0; i < n; ++i) {
      V row[m], point[n];
#pragma GCC unroll 4
      for (int j = 0; j < m; ++j) row[j] = column[j][i];
      Filter::gradient(row, point);
      store_points(point, to + t * tile_stride + n * i * point_stride, point_stride);
    }
  }
}

// A^T m A of one tile: its pixels.
template <class Filter, class V, class T>
LADDERSEG_INLINE void transform_output(const T* points, int64_t point_stride, V (&pixel)[kTilePixels<Filter>]) {
  constexpr int n = Filter::inputs, m = Filter::results;
  V half[m][n];
#pragma GCC unroll 6
  for (int j = 0; j < n; ++j) {
    V column[n], y[m];
#pragma GCC unroll 6
    for (int i = 0; i < n; ++i) column[i] = load_as<V>(points + (n * i + j) * point_stride);
    Filter::result(column, y);
#pragma GCC unroll 4
    for (int a = 0; a < m; ++a) half[a][j] = y[a];
  }
#pragma GCC unroll 4
  for (int a = 0; a < m; ++a) {
    V y[m];
    Filter::result(half[a], y);
#pragma GCC unroll 4
    for (int b = 0; b < m; ++b) pixel[m * a + b] = y[b];
  }
}

// G w G^T of filters w(u, v) = w[3 * u + v]; V is double or a vector of doubles: transformed weights are rounded once.
template <class Filter, class V>
LADDERSEG_INLINE void transform_weight(const V (&w)[9], V (&point)[kPoints<Filter>]) {
  constexpr int n = Filter::inputs;
  V half[n][3];
#pragma GCC unroll 3
  for (int v = 0; v < 3; ++v) {
    const V taps[3] = {w[v], w[3 + v], w[6 + v]};
    V column[n];
    Filter::weight(taps, column);
#pragma GCC unroll 6
    for (int i = 0; i < n; ++i) half[i][v] = column[i];
  }
#pragma GCC unroll 6
  for (int i = 0; i < n; ++i) {
    V row[n];
    Filter::weight(half[i], row);
#pragma GCC unroll 6
    for (int j = 0; j < n; ++j) point[n * i + j] = row[j];
  }
}

// G^T s G: from the sums at the points to the gradient of the filter.
template <class Filter, class V>
LADDERSEG_INLINE void transform_weight_gradient(const V (&s)[kPoints<Filter>], V (&grad)[9]) {
  constexpr int n = Filter::inputs;
  V half[3][n];
#pragma GCC unroll 6
  for (int j = 0; j < n; ++j) {
    V column[n], taps[3];
#pragma GCC unroll 6
    for (int i = 0; i < n; ++i) column[i] = s[n * i + j];
    Filter::weight_gradient(column, taps);
#pragma GCC unroll 3
    for (int u = 0; u < 3; ++u) half[u][j] = taps[u];
  }
#pragma GCC unroll 3
  for (int u = 0; u < 3; ++u) {
    V taps[3];
    Filter::weight_gradient(half[u], taps);
#pragma GCC unroll 3
    for (int v = 0; v < 3; ++v) grad[3 * u + v] = taps[v];
  }
}

// One vector of doubles' filters, transformed and rounded to R.
template <class Filter, class R>
struct TransformedFilters {
  static constexpr int lanes = Simd<double>::lanes;
  typedef R Narrow __attribute__((vector_size(lanes * sizeof(R))));
  typedef R Stored __attribute__((vector_size(lanes * sizeof(R)), aligned(sizeof(R)), may_alias));
  Narrow point[kPoints<Filter>];

  // Filter j < count is at weight + j * weight_stride, mirrored or not; the others are zero.
  template <bool mirrored>
  LADDERSEG_INLINE void transform(const R* weight, int64_t weight_stride, int64_t count) {
    using Vector = Simd<double>::Vector;
    R taps[9][lanes] = {};
    for (int lane = 0; lane < lanes && lane < count; ++lane) {
      const R* filter = weight + lane * weight_stride;
      for (int tap = 0; tap < 9; ++tap) taps[tap][lane] = filter[mirrored ? 8 - tap : tap];
    }
    Vector w[9], exact[kPoints<Filter>];
#pragma GCC unroll 9
    for (int tap = 0; tap < 9; ++tap) w[tap] = load_widened<Vector>(taps[tap]);
    transform_weight<Filter>(w, exact);
#pragma GCC unroll 36
    for (int i = 0; i < kPoints<Filter>; ++i) point[i] = __builtin_convertvector(exact[i], Narrow);
  }
};

// Transformed filters side by side, for the rows `mine` of a panel: point i of filter j of row k goes to
// to[i * point_stride + k * columns + j], or where pairs of rows have it (gemm.h). Filter j < count of row k < rows is
// at weight + k * row_stride + j * weight_stride, mirrored or not; the others are zero.
template <class Filter, bool mirrored, class T>
LADDERSEG_INLINE void pack_transformed(const RealOf<T>* weight, int64_t row_stride, int64_t rows, int64_t weight_stride,
                                       int64_t count, Range mine, T* to, int64_t point_stride) {
  using Filters = TransformedFilters<Filter, RealOf<T>>;
  constexpr int64_t columns = RegisterBlock<T>::columns, lanes = Filters::lanes;
  for (int64_t k = mine.begin; k < mine.end; k += kPair<T>)
    for (int64_t j = 0; j < columns; j += lanes) {
      const RealOf<T>* const from = weight + k * row_stride + j * weight_stride;
      Filters filters;
      filters.template transform<mirrored>(from, weight_stride, count - j);
      if constexpr (kPair<T> == 1) {
#pragma GCC unroll 36
        for (int i = 0; i < kPoints<Filter>; ++i)
          *reinterpret_cast<typename Filters::Stored*>(to + i * point_stride + k * columns + j) = filters.point[i];
      } else {
        Filters second;
        second.template transform<mirrored>(from + row_stride, weight_stride, k + 1 < rows ? count - j : 0);
        for (int i = 0; i < kPoints<Filter>; ++i)
          store_pairs(to + i * point_stride + k * columns + 2 * j, filters.point[i], second.point[i]);
      }
    }
}

}  // namespace LADDERSEG_ISA
}  // namespace ladderseg
