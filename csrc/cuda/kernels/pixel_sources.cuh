// What a 3x3 convolution reads of a pixel, 16 bytes of channels at a time: the normalised input, or the corrected
// gradient.
//
// `fetch` only reads, `values` computes: between them lies the arithmetic of the slice of channels before, so that
// reading is hidden. `vectors` are those of the channels, the same for all pixels. Channels beyond the last are zero.
// With `wide`, the map's pixels are whole chunks of 16 bytes, at addresses that are multiples of 16.
#pragma once

#include "patches.cuh"
#include "sources.cuh"
#include "threads.cuh"

namespace ladderseg::cuda {

// Part of a vector for the channels of a chunk, of which `count` exist; with `aligned`, read 16 bytes at a time. With
// `wide`, all exist or none.
template <bool wide>
LADDERSEG_DEVICE Pack<kWide> vector_chunk(const Real* from, int count, bool aligned) {
  Pack<kWide> pack = {};
  if (aligned && (wide || count >= kWide)) {
    if (count <= 0) return pack;
    pack = load_vector<kWide, true>(from);
  } else {
#pragma unroll
    for (int i = 0; i < kWide; ++i) pack.values[i] = i < count ? from[i] : Real(0);
  }
  return pack;
}

// A pixel of a map whose stride is an int: faster than map.pixel.
LADDERSEG_DEVICE const Element* near_pixel(const FeatureMap<const Element>& map, int pixel) {
  return map.data + static_cast<int64>(pixel) * static_cast<int>(map.pixel_stride);
}

// relu((x - mean) * scale + shift) of the pixels of `map`, in which the strip begins with row `first_row`.
template <bool wide>
struct RectifiedPixels {
  FeatureMap<const Element> map;
  int64 first_row;
  Norm<Real> norm;
  bool aligned;  // whether the chunks of norm's vectors are

  struct Raw {
    Chunk chunk;
  };
  struct Vectors {
    Pack<kWide> mean, scale, shift;
  };

  LADDERSEG_DEVICE int64 rows() const { return map.h; }
  LADDERSEG_DEVICE int channels() const { return static_cast<int>(map.c); }

  // Counts pixels from `pixels` of the map on.
  LADDERSEG_DEVICE void skip(int64 pixels) { map.data = map.pixel(pixels); }

  // From `channel` on, of pixel `pixel` of the map; both exist.
  LADDERSEG_DEVICE Raw fetch(int64 pixel, int channel) const {
    return {fetch_chunk<wide>(map.pixel(pixel) + channel, channels() - channel)};
  }
  // Of a map whose stride is an int, like the pixel's number.
  LADDERSEG_DEVICE Raw fetch_near(int pixel, int channel) const {
    return {fetch_chunk<wide>(near_pixel(map, pixel) + channel, channels() - channel)};
  }
  LADDERSEG_DEVICE Vectors vectors(int channel) const {
    const int count = channels() - channel;
    return {vector_chunk<wide>(norm.mean + channel, count, aligned),
            vector_chunk<wide>(norm.scale + channel, count, aligned),
            vector_chunk<wide>(norm.shift + channel, count, aligned)};
  }
  LADDERSEG_DEVICE Pack<kWide> values(const Raw& raw, const Vectors& vectors) const {
    Pack<kWide> pack = unpack(raw.chunk);
#pragma unroll
    for (int i = 0; i < kWide; ++i)
      pack.values[i] = rectified(
          normalised(pack.values[i], vectors.mean.values[i], vectors.scale.values[i], vectors.shift.values[i]));
    return pack;
  }
};

// grad - constant - slope * (x - mean), or grad alone, of the pixels of a gradient's maps, likewise.
template <bool wide>
struct CorrectedPixels {
  Gradient<Element, Real> gradient;
  int64 first_row;
  bool aligned;  // whether the chunks of the correction's vectors are

  struct Raw {
    Chunk grad, input;
  };
  struct Vectors {
    Pack<kWide> mean, constant, slope;
  };

  LADDERSEG_DEVICE bool corrected() const { return gradient.input.data != nullptr; }
  LADDERSEG_DEVICE int64 rows() const { return gradient.grad.h; }
  LADDERSEG_DEVICE int channels() const { return static_cast<int>(gradient.grad.c); }

  LADDERSEG_DEVICE void skip(int64 pixels) {
    gradient.grad.data = gradient.grad.pixel(pixels);
    keep(gradient.grad.data);
    if (corrected()) gradient.input.data = gradient.input.pixel(pixels);
    keep(gradient.input.data);
  }

  LADDERSEG_DEVICE Raw fetch(int64 pixel, int channel) const {
    Raw raw = {};
    const int count = channels() - channel;
    raw.grad = fetch_chunk<wide>(gradient.grad.pixel(pixel) + channel, count);
    if (corrected()) raw.input = fetch_chunk<wide>(gradient.input.pixel(pixel) + channel, count);
    return raw;
  }
  LADDERSEG_DEVICE Raw fetch_near(int pixel, int channel) const {
    Raw raw = {};
    const int count = channels() - channel;
    raw.grad = fetch_chunk<wide>(near_pixel(gradient.grad, pixel) + channel, count);
    if (corrected()) raw.input = fetch_chunk<wide>(near_pixel(gradient.input, pixel) + channel, count);
    return raw;
  }
  LADDERSEG_DEVICE Vectors vectors(int channel) const {
    Vectors vectors = {};
    if (!corrected()) return vectors;
    const int count = channels() - channel;
    return {vector_chunk<wide>(gradient.mean + channel, count, aligned),
            vector_chunk<wide>(gradient.constant + channel, count, aligned),
            vector_chunk<wide>(gradient.slope + channel, count, aligned)};
  }
  LADDERSEG_DEVICE Pack<kWide> values(const Raw& raw, const Vectors& vectors) const {
    Pack<kWide> pack = unpack(raw.grad);
    if (!corrected()) return pack;
    const Pack<kWide> x = unpack(raw.input);
#pragma unroll
    for (int i = 0; i < kWide; ++i)
      pack.values[i] = pack.values[i] - vectors.constant.values[i] -
                       vectors.slope.values[i] * (x.values[i] - vectors.mean.values[i]);
    return pack;
  }
};

}  // namespace ladderseg::cuda
