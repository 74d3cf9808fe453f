// Minimal filtering F(2x2, 3x3) (Winograd 1980; Lavin and Gray, CVPR 2016): a 3x3 convolution of 2x2 pixels takes a
// 4x4 tile of inputs and 16 multiplications instead of 36, exactly but for rounding:
//
//   Y = A^T [(G w G^T) * (B^T d B)] A        d: input tile, w: filter, Y: output tile, *: element by element
//
//   B^T = 1  0 -1  0     G = 1    0    0      A^T = 1  1  1  0
//         0  1  1  0         1/2  1/2  1/2          0  1 -1 -1
//         0 -1  1  0         1/2 -1/2  1/2
//         0  1  0 -1         0    0    1
//
// Summed over channels, each of the 16 points is a matrix product. Y is bilinear in d and w, so the gradient of w
// takes the same 16 multiplications: dw = G^T [(A g A^T) * (B^T d B)] G with g the gradient of Y.
// The rounding error is below that of sums over nine taps; with larger tiles it would be above (benchmarks/NOTES.md).
#pragma once

#include "ladderseg/feature_map.h"
#include "simd.h"

namespace ladderseg {
namespace LADDERSEG_ISA {

constexpr int64_t kPoints = 16;

// The 2x2 tiles of a map. With dilation d, the pixels (i * d + a, j * d + b) of each phase (a, b) form a map of their
// own.
struct TileGrid {
  int64_t images, height, width, dilation;
  int64_t rows, columns;  // tiles of a phase; the last phases' may lie outside

  TileGrid(int64_t images, int64_t height, int64_t width, int64_t dilation)
      : images(images),
        height(height),
        width(width),
        dilation(dilation),
        rows((height + 2 * dilation - 1) / (2 * dilation)),
        columns((width + 2 * dilation - 1) / (2 * dilation)) {}

  int64_t count() const { return images * dilation * dilation * rows * columns; }
};

// Consecutive tiles of one row: the first pixel (y, x) of the first; from tile to tile x grows by 2 * dilation.
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
                      phase / grid.dilation + row % grid.rows * 2 * grid.dilation,
                      phase % grid.dilation + column * 2 * grid.dilation};
    body(run, done);
    done += tiles;
  }
}

// Sources of the tiles: a source gives V channels of a pixel from c on, V being a vector or a number.

// y = relu((x - mean) * scale + shift)
template <class T>
struct NormalisedSource {
  FeatureMap<const T> map;
  Norm<T> norm;

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

// B^T d B of a run's tiles for V channels: point i of tile t goes to to[i * point_stride + t * tile_stride].
// `first_row` is the map's row at row 0 of the tiles' grid.
template <class V, class Source, class T>
LADDERSEG_INLINE void transform_input(const Source& source, const TileRun& run, int64_t first_row, int64_t dilation,
                                      int64_t c, T* to, int64_t tile_stride, int64_t point_stride) {
  const auto channels = source.template channels<V>(c);
  const RowPixels<4> rows(source.map, run.image, run.y + first_row - dilation, dilation);
  struct Column {
    V value[4];
  };
  const auto column = [&](int64_t x) __attribute__((always_inline)) {
    V d[4] = {};
    if (x >= 0 && x < rows.width)
#pragma GCC unroll 4
      for (int a = 0; a < 4; ++a)
        if (rows.inside[a]) d[a] = channels.at(rows.pixel[a] + x);
    return Column{{d[0] - d[2], d[1] + d[2], d[2] - d[1], d[1] - d[3]}};
  };
  // Neighbouring tiles share two columns.
  Column first = column(run.x - dilation), second = column(run.x);
  for (int64_t t = 0; t < run.tiles; ++t) {
    const int64_t x = run.x + 2 * t * dilation;
    const Column third = column(x + dilation), fourth = column(x + 2 * dilation);
    T* tile = to + t * tile_stride;
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      T* point = tile + 4 * i * point_stride;
      store_as<V>(point, first.value[i] - third.value[i]);
      store_as<V>(point + point_stride, second.value[i] + third.value[i]);
      store_as<V>(point + 2 * point_stride, third.value[i] - second.value[i]);
      store_as<V>(point + 3 * point_stride, second.value[i] - fourth.value[i]);
    }
    first = third;
    second = fourth;
  }
}

// A g A^T of a run's tiles for V channels, laid out like transform_input's; g is zero outside `grid`.
template <class V, class Source, class T>
LADDERSEG_INLINE void transform_gradient(const Source& source, const TileGrid& grid, const TileRun& run,
                                         int64_t first_row, int64_t c, T* to, int64_t tile_stride,
                                         int64_t point_stride) {
  const auto channels = source.template channels<V>(c);
  const RowPixels<2> rows(source.map, run.image, run.y + first_row, grid.dilation);
  struct Column {
    V value[4];
  };
  const auto column = [&](int64_t x) __attribute__((always_inline)) {
    V g[2] = {};
    if (x < grid.width)
#pragma GCC unroll 2
      for (int a = 0; a < 2; ++a)
        if (rows.inside[a] && run.y + a * grid.dilation < grid.height) g[a] = channels.at(rows.pixel[a] + x);
    return Column{{g[0], g[0] + g[1], g[0] - g[1], -g[1]}};
  };
  for (int64_t t = 0; t < run.tiles; ++t) {
    const int64_t x = run.x + 2 * t * grid.dilation;
    const Column left = column(x), right = column(x + grid.dilation);
    T* tile = to + t * tile_stride;
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      T* point = tile + 4 * i * point_stride;
      store_as<V>(point, left.value[i]);
      store_as<V>(point + point_stride, left.value[i] + right.value[i]);
      store_as<V>(point + 2 * point_stride, left.value[i] - right.value[i]);
      store_as<V>(point + 3 * point_stride, -right.value[i]);
    }
  }
}

// A^T m A of one tile: its pixels (0, 0), (0, 1), (1, 0), (1, 1).
template <class V, class T>
LADDERSEG_INLINE void transform_output(const T* m, int64_t point_stride, V (&pixel)[4]) {
  V upper[4], lower[4];
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j) {
    const V a = load_as<V>(m + j * point_stride), b = load_as<V>(m + (4 + j) * point_stride);
    const V c = load_as<V>(m + (8 + j) * point_stride), d = load_as<V>(m + (12 + j) * point_stride);
    upper[j] = a + b + c;
    lower[j] = b - c - d;
  }
  pixel[0] = upper[0] + upper[1] + upper[2];
  pixel[1] = upper[1] - upper[2] - upper[3];
  pixel[2] = lower[0] + lower[1] + lower[2];
  pixel[3] = lower[1] - lower[2] - lower[3];
}

// G w G^T of filters w(u, v) = w[3 * u + v]; V is double or a vector of doubles: transformed weights are rounded once.
template <class V>
LADDERSEG_INLINE void transform_weight(const V (&w)[9], V (&point)[16]) {
  V half[4][3];
  for (int v = 0; v < 3; ++v) {
    const V a = w[v], b = w[3 + v], c = w[6 + v];
    half[0][v] = a;
    half[1][v] = 0.5 * (a + b + c);
    half[2][v] = 0.5 * (a - b + c);
    half[3][v] = c;
  }
  for (int i = 0; i < 4; ++i) {
    const V a = half[i][0], b = half[i][1], c = half[i][2];
    point[4 * i] = a;
    point[4 * i + 1] = 0.5 * (a + b + c);
    point[4 * i + 2] = 0.5 * (a - b + c);
    point[4 * i + 3] = c;
  }
}

// Transformed filters side by side: point i of filter j goes to to[i * point_stride + j]. Filter j < count is at
// weight + j * weight_stride, mirrored or not; filters from `count` to `columns` are zero.
template <bool mirrored, class T>
LADDERSEG_INLINE void pack_transformed(const T* weight, int64_t weight_stride, int64_t count, int64_t columns, T* to,
                                       int64_t point_stride) {
  using Vector = Simd<double>::Vector;
  constexpr int lanes = Simd<double>::lanes;
  typedef T Narrow __attribute__((vector_size(lanes * sizeof(T))));
  typedef T Stored __attribute__((vector_size(lanes * sizeof(T)), aligned(sizeof(T)), may_alias));
  for (int64_t j = 0; j < columns; j += lanes) {
    T taps[9][lanes] = {};
    for (int lane = 0; lane < lanes && j + lane < count; ++lane) {
      const T* filter = weight + (j + lane) * weight_stride;
      for (int tap = 0; tap < 9; ++tap) taps[tap][lane] = filter[mirrored ? 8 - tap : tap];
    }
    Vector w[9], point[16];
    for (int tap = 0; tap < 9; ++tap)
      w[tap] = __builtin_convertvector(*reinterpret_cast<const Stored*>(taps[tap]), Vector);
    transform_weight(w, point);
    for (int i = 0; i < 16; ++i)
      *reinterpret_cast<Stored*>(to + i * point_stride + j) = __builtin_convertvector(point[i], Narrow);
  }
}

// G^T s G: from the sums at the points to the gradient of the filter.
LADDERSEG_INLINE void transform_weight_gradient(const double (&s)[16], double (&grad)[9]) {
  double half[3][4];
  for (int j = 0; j < 4; ++j) {
    const double a = s[j], b = s[4 + j], c = s[8 + j], d = s[12 + j];
    half[0][j] = a + 0.5 * (b + c);
    half[1][j] = 0.5 * (b - c);
    half[2][j] = 0.5 * (b + c) + d;
  }
  for (int i = 0; i < 3; ++i) {
    const double a = half[i][0], b = half[i][1], c = half[i][2], d = half[i][3];
    grad[3 * i] = a + 0.5 * (b + c);
    grad[3 * i + 1] = 0.5 * (b - c);
    grad[3 * i + 2] = 0.5 * (b + c) + d;
  }
}

}  // namespace LADDERSEG_ISA
}  // namespace ladderseg
