// The maps that the weight gradient of a 3x3 convolution is computed from, and a block's part of the result: what its
// two kernels, on the ordinary units and on tensor cores, share.
//
//   grad_weight[tap, c, k] = sum over pixels p of y[p moved by the tap, c] * grad[p, k]
//
// A block has some channels c and outputs k, all taps, and some patches of pixels. It reads the input with the frame
// around a patch, and the gradient without. Pixels outside of the map count as zeros, and so do those of a patch that
// are outside of the strip: after batch norm and correction, which make something else of zeros.
#pragma once

#include "bn_relu_conv3x3.h"
#include "patches.cuh"
#include "sources.cuh"

namespace ladderseg::cuda {

using WeightArguments = BnReluConv3x3WeightArguments<Element, Real>;

// The part of the work that a block does. Blocks of one part of the patches follow each other, so that what they share
// is read from memory once.
struct WeightShare {
  int first, last;      // patches
  int channel, output;  // the first of its own
  Real* result;         // [9, C', K]

  LADDERSEG_DEVICE static WeightShare of(const WeightArguments& args, int channels, int outputs) {
    const int tiles = args.channel_tiles * args.output_tiles;
    const int part = static_cast<int>(blockIdx.x) / tiles, tile = static_cast<int>(blockIdx.x) % tiles;
    const int64 first = part * args.patches_per_part;
    WeightShare share;
    share.first = static_cast<int>(first);
    share.last = static_cast<int>(smaller(first + args.patches_per_part, args.patches.count));
    share.channel = tile / args.output_tiles * channels;
    share.output = tile % args.output_tiles * outputs;
    share.result = args.partial_weight + part * (9 * args.padded_channels * args.grad_output.grad.c);
    return share;
  }

  // Where the sum of a tap, a channel and an output lies; the latter two are numbers in the share.
  LADDERSEG_DEVICE Real* at(const WeightArguments& args, int tap, int c, int k) const {
    return result + (tap * args.padded_channels + channel + c) * args.grad_output.grad.c + output + k;
  }
};

// An image of a map, with fewer than 2^31 pixels.
struct MapImage {
  const char* data;
  unsigned bytes;  // from a pixel to the next

  LADDERSEG_DEVICE MapImage(const FeatureMap<const Element>& map, int image)
      : data(reinterpret_cast<const char*>(map.data)),
        bytes(static_cast<unsigned>(map.pixel_stride) * static_cast<unsigned>(sizeof(Element))) {
    data += static_cast<int64>(image) * (static_cast<int>(map.h) * static_cast<int>(map.w)) * bytes;
  }

  LADDERSEG_DEVICE const Element* pixel(unsigned number) const {
    return reinterpret_cast<const Element*>(data + static_cast<int64>(number) * bytes);
  }
  // Where pixel `number` would be, if the image had one before its first.
  LADDERSEG_DEVICE const Element* pixel_or_outside(int64 number) const {
    return reinterpret_cast<const Element*>(data + number * bytes);
  }
};

// A patch with its frame, in the input. Its pixel (i, j) is counted from the frame's first.
template <class Pixels>
struct InputPatch {
  static constexpr int kHeight = Pixels::kHeight + 2, kWidth = Pixels::kWidth + 2;

  MapImage image;
  int height, width;  // of the image
  int y, x;           // of the frame's first pixel
  int step;
  bool whole;  // whether all is inside of the map

  LADDERSEG_DEVICE InputPatch(const WeightArguments& args, const Pixels& patch)
      : image(args.input, patch.image),
        height(static_cast<int>(args.input.h)),
        width(static_cast<int>(args.input.w)),
        y(patch.row(-1) + static_cast<int>(args.input_first_row)),
        x(patch.column(-1)),
        step(patch.step),
        whole(y >= 0 && y + (kHeight - 1) * step < height && x >= 0 && x + (kWidth - 1) * step < width) {}

  LADDERSEG_DEVICE bool inside(int i, int j) const {
    const int row = y + i * step, column = x + j * step;
    return row >= 0 && row < height && column >= 0 && column < width;
  }
  // Pixel (i, j), which is inside.
  LADDERSEG_DEVICE const Element* pixel(int i, int j) const {
    return image.pixel((y + i * step) * width + x + j * step);
  }
  LADDERSEG_DEVICE const Element* first() const { return image.pixel_or_outside(static_cast<int64>(y) * width + x); }
  // From a pixel to the one `rows` below in the patch.
  LADDERSEG_DEVICE unsigned bytes_down(int rows) const { return rows * step * width * image.bytes; }
};

// A patch of the gradient, or of the input that corrects it.
template <class Pixels>
struct GradientPatch {
  const Pixels& patch;
  MapImage image;
  int width;
  int y, x;    // of the first pixel
  bool whole;  // whether all is inside of the strip

  LADDERSEG_DEVICE GradientPatch(const WeightArguments& args, const FeatureMap<const Element>& map, const Pixels& patch)
      : patch(patch),
        image(map, patch.image),
        width(static_cast<int>(map.w)),
        y(patch.row(0) + static_cast<int>(args.grad_first_row)),
        x(patch.column(0)),
        whole(patch.inside(Pixels::kHeight - 1, Pixels::kWidth - 1)) {}

  LADDERSEG_DEVICE bool inside(int i, int j) const { return patch.inside(i, j); }
  LADDERSEG_DEVICE const Element* pixel(int i, int j) const {
    return image.pixel((y + i * patch.step) * width + x + j * patch.step);
  }
  LADDERSEG_DEVICE unsigned bytes_down(int rows) const { return rows * patch.step * width * image.bytes; }
};

// The channel from which a thread reads: another one where there is none so high, for what it computes from that is
// stored nowhere.
LADDERSEG_DEVICE int existing_channel(const FeatureMap<const Element>& map, int channel) {
  return channel < map.c ? channel : 0;
}

}  // namespace ladderseg::cuda
