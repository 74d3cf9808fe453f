// Sources of the products of a 3x3 convolution: matrices whose rows are pixels and whose columns are a tap's channels,
// for one tap after the other; or pixels moved by no tap. The values are computed as in sources.cuh.
//
// A tap's channels are padded to whole chunks of 16 bytes, so a chunk belongs to one tap. Values outside a map are
// zero.
#pragma once

#include "bn_relu_conv3x3.h"
#include "pixel_sources.cuh"

namespace ladderseg::cuda {

constexpr int kTaps = 9;

// 16 bytes of a pixel's channels from `channel` on; outside of the map, the channel is -1.
struct PixelChunk {
  Chunk chunk;
  int channel;
};

// relu((x - mean) * scale + shift).
struct Rectification {
  Norm<Real> norm;
  int channels;
  bool aligned;

  LADDERSEG_DEVICE Pack<kWide> values(const PixelChunk& raw) const {
    Pack<kWide> pack = {};
    if (raw.channel < 0) return pack;
    const int c = raw.channel, count = channels - c;
    const Pack<kWide> mean = vector_chunk(norm.mean + c, count, aligned);
    const Pack<kWide> scale = vector_chunk(norm.scale + c, count, aligned);
    const Pack<kWide> shift = vector_chunk(norm.shift + c, count, aligned);
    const Pack<kWide> x = unpack(raw.chunk);
#pragma unroll
    for (int i = 0; i < kWide; ++i)
      if (i < count)
        pack.values[i] = rectified(normalised(x.values[i], mean.values[i], scale.values[i], shift.values[i]));
    return pack;
  }
};

struct GradientChunk {
  Chunk grad, input;
  int channel;
};

// grad - constant - slope * (x - mean), or grad alone.
struct GradientCorrection {
  const Real* mean;
  const Real* constant;
  const Real* slope;
  int channels;
  bool there, aligned;

  LADDERSEG_DEVICE Pack<kWide> values(const GradientChunk& raw) const {
    Pack<kWide> pack = unpack(raw.grad);
    if (!there || raw.channel < 0) return pack;
    const int c = raw.channel, count = channels - c;
    const Pack<kWide> centre = vector_chunk(mean + c, count, aligned);
    const Pack<kWide> lowered = vector_chunk(constant + c, count, aligned);
    const Pack<kWide> factor = vector_chunk(slope + c, count, aligned);
    const Pack<kWide> x = unpack(raw.input);
#pragma unroll
    for (int i = 0; i < kWide; ++i)
      if (i < count)
        pack.values[i] = pack.values[i] - lowered.values[i] - factor.values[i] * (x.values[i] - centre.values[i]);
    return pack;
  }
};

// The chunk at `channel` of pixel `p` of a map, or of a gradient's maps.
template <bool wide>
LADDERSEG_DEVICE PixelChunk fetch_pixel(const FeatureMap<const Element>& map, int64 p, int channel) {
  PixelChunk raw;
  raw.chunk = fetch_chunk<wide>(map.pixel(p) + channel, static_cast<int>(map.c) - channel);
  raw.channel = channel;
  return raw;
}
template <bool wide>
LADDERSEG_DEVICE GradientChunk fetch_pixel(const Gradient<Element, Real>& gradient, int64 p, int channel) {
  GradientChunk raw = {};
  const int count = static_cast<int>(gradient.grad.c) - channel;
  raw.grad = fetch_chunk<wide>(gradient.grad.pixel(p) + channel, count);
  if (gradient.input.data) raw.input = fetch_chunk<wide>(gradient.input.pixel(p) + channel, count);
  raw.channel = channel;
  return raw;
}

// Positions of the taps of a tile's pixels in a map, counted in its pixels; in shared memory.
template <int rows>
struct Neighbours {
  struct alignas(16) Row {
    int64 centre;
    unsigned inside;  // bit t: whether tap t is in the map
  };
  Row row[rows];
  int64 step[kTaps];  // from the centre to each tap

  // For the strip's pixels from `first` on, where the strip's first row is at `first_row` of a map of `height` rows,
  // and taps are `dilation` apart (or, negative, in reverse order). For all threads of the block together, which then
  // are synchronised; there are at least so many as rows and taps.
  LADDERSEG_DEVICE void find(const Strip& strip, int64 first, int64 first_row, int64 height, int dilation) {
    const int thread = threadIdx.x;
    if (thread < rows) {
      const int64 p = first + thread;
      Row found = {0, 0};
      if (p < strip.n * strip.h * strip.w) {
        const int64 line = p / strip.w, image = line / strip.h;
        const int64 x = p - line * strip.w, y = line - image * strip.h + first_row;
        found.centre = (image * height + y) * strip.w + x;
#pragma unroll
        for (int tap = 0; tap < kTaps; ++tap) {
          const int64 row = y + (tap / 3 - 1) * static_cast<int64>(dilation);
          const int64 column = x + (tap % 3 - 1) * static_cast<int64>(dilation);
          if (row >= 0 && row < height && column >= 0 && column < strip.w) found.inside |= 1u << tap;
        }
      }
      row[thread] = found;
    }
    if (thread < kTaps) step[thread] = ((thread / 3 - 1) * strip.w + (thread % 3 - 1)) * dilation;
    __syncthreads();
  }
};

// The pixels of a tile, counted from its first, as rows; taps and channels as columns.
template <bool wide, int rows, class From, class Raw_, class Arithmetic>
struct Patches {
  From from;
  Divisor channels;  // of a tap
  const Neighbours<rows>& neighbours;
  Arithmetic arithmetic;

  static constexpr bool kPlain = false;
  using Raw = Raw_;

  LADDERSEG_DEVICE Raw fetch(int64 row, int column) const {
    Raw raw = {};
    raw.channel = -1;
    const int tap = quotient(column, channels);
    if (tap >= kTaps) return raw;
    const auto& at = neighbours.row[row];
    const int64 p = at.centre + neighbours.step[tap];
    if (at.inside >> tap & 1u) raw = fetch_pixel<wide>(from, p, column - tap * channels.value);
    return raw;
  }
  LADDERSEG_DEVICE Pack<kWide> values(const Raw& raw, int64, int) const { return arithmetic.values(raw); }
};

template <bool wide, int rows>
using RectifiedPatches = Patches<wide, rows, FeatureMap<const Element>, PixelChunk, Rectification>;
template <bool wide, int rows>
using CorrectedPatches = Patches<wide, rows, Gradient<Element, Real>, GradientChunk, GradientCorrection>;

// Some pixels of a strip, in their order.
struct PixelRange {
  int image, y, x;  // of the first
  int count;
  Divisor height, width;  // of the strip

  struct Position {
    int image, y, x;
  };

  LADDERSEG_DEVICE PixelRange(const Strip& strip, const Divisor& height, const Divisor& width, int64 first, int64 count)
      : count(static_cast<int>(count)), height(height), width(width) {
    const int64 line = first / strip.w, number = line / strip.h;
    image = static_cast<int>(number);
    y = static_cast<int>(line - number * strip.h);
    x = static_cast<int>(first - line * strip.w);
  }

  LADDERSEG_DEVICE Position operator[](int number) const {
    const int column = x + number, lines = quotient(column, width);
    const int row = y + lines, images = quotient(row, height);
    return {image + images, row - images * height.value, column - lines * width.value};
  }
};

// Whether an image of the map has the pixel (y, x).
LADDERSEG_DEVICE bool has_pixel(const FeatureMap<const Element>& map, int y, int x) {
  return y >= 0 && y < static_cast<int>(map.h) && x >= 0 && x < static_cast<int>(map.w);
}
LADDERSEG_DEVICE int64 pixel_number(const FeatureMap<const Element>& map, int image, int y, int x) {
  return (image * map.h + y) * map.w + x;
}

// The pixels of a range as rows; taps and channels of the normalised input as columns.
template <bool wide>
struct RectifiedRange {
  const PixelRange& range;
  FeatureMap<const Element> input;
  int first_row;
  int dilation;
  Divisor channels;  // of a tap
  Rectification arithmetic;

  static constexpr bool kPlain = false;
  using Raw = PixelChunk;

  LADDERSEG_DEVICE Raw fetch(int64 number, int column) const {
    Raw raw = {};
    raw.channel = -1;
    const int tap = quotient(column, channels);
    if (number >= range.count || tap >= kTaps) return raw;
    const PixelRange::Position at = range[static_cast<int>(number)];
    const int y = at.y + first_row + (tap / 3 - 1) * dilation, x = at.x + (tap % 3 - 1) * dilation;
    if (has_pixel(input, y, x))
      raw = fetch_pixel<wide>(input, pixel_number(input, at.image, y, x), column - tap * channels.value);
    return raw;
  }
  LADDERSEG_DEVICE Pack<kWide> values(const Raw& raw, int64, int) const { return arithmetic.values(raw); }
};

// The pixels of a range as rows; channels of the gradient as columns.
template <bool wide>
struct CorrectedRange {
  const PixelRange& range;
  Gradient<Element, Real> gradient;
  int first_row;
  GradientCorrection arithmetic;

  static constexpr bool kPlain = false;
  using Raw = GradientChunk;

  LADDERSEG_DEVICE Raw fetch(int64 number, int column) const {
    Raw raw = {};
    raw.channel = -1;
    if (number >= range.count || column >= arithmetic.channels) return raw;
    const PixelRange::Position at = range[static_cast<int>(number)];
    if (has_pixel(gradient.grad, at.y + first_row, at.x))
      raw = fetch_pixel<wide>(gradient, pixel_number(gradient.grad, at.image, at.y + first_row, at.x), column);
    return raw;
  }
  LADDERSEG_DEVICE Pack<kWide> values(const Raw& raw, int64, int) const { return arithmetic.values(raw); }
};

LADDERSEG_DEVICE GradientCorrection correction(const Gradient<Element, Real>& gradient, bool aligned) {
  const int channels = static_cast<int>(gradient.grad.c);
  return {gradient.mean, gradient.constant, gradient.slope, channels, gradient.input.data != nullptr, aligned};
}

}  // namespace ladderseg::cuda
