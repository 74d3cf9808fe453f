// Launch of the backward of BN-ReLU-conv3x3 for the weight: see ladderseg/bn_relu_conv3x3.h.
#include <algorithm>
#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

#include "../kernels/conv3x3_weight.h"
#include "bn_relu_conv3x3.h"
#include "columns.h"
#include "patches.h"
#include "products.h"
#include "sum_parts.h"

namespace ladderseg::cuda {
namespace {

constexpr int64_t kMaxOffset = std::numeric_limits<int32_t>::max();

// The kernels number the pixels of an image, and the bytes between two neighbouring ones, with 32 bits.
void expect_small_images(const FeatureMap<const void>& map) {
  if (map.h * map.w <= kMaxOffset && map.pixel_stride * 8 <= kMaxOffset) return;
  throw std::runtime_error("a map of a 3x3 convolution must have images of less than 2^31 pixels, less than 2^28 " +
                           std::string("elements apart, got ") + std::to_string(map.h) + " x " + std::to_string(map.w) +
                           " pixels, " + std::to_string(map.pixel_stride) + " elements apart");
}

// Whether 32 bits hold the distance in bytes between two pixels of a patch with its frame.
bool has_small_patches(const Queue& queue, const FeatureMap<const void>& map, const PatchGrid& patches) {
  const int bytes = element_bytes(queue.element);
  const int64_t rows = weight_patch_height(bytes, true) + 2, columns = weight_patch_width(bytes, true) + 2;
  return (rows * map.w + columns) * patches.step <= kMaxOffset / (map.pixel_stride * bytes);
}

}  // namespace

void conv3x3_backward_weight(const Queue& queue, const BnReluConv3x3Backward<void>& args) {
  const FeatureMap<void>& strip = args.grad_input;
  const Gradient<void>& gradient = args.grad_output;
  const int bytes = element_bytes(queue.element);
  const int64_t columns = gradient.grad.c, channels = padded(queue, args.input.c);
  std::vector<FeatureMap<const void>> maps = {args.input, gradient.grad};
  if (gradient.input.data) maps.push_back(gradient.input);
  for (const auto& map : maps) expect_small_images(map);

  // A larger dilation moves every tap but the middle one out of the map, as one of the map's extent does.
  const int64_t extent = std::max({int64_t(1), args.input.h, args.input.w});
  const auto divide = [&](bool tensor) {
    return make_patch_grid(strip.n, strip.h, strip.w, std::min(args.dilation, extent),
                           weight_patch_height(bytes, tensor), weight_patch_width(bytes, tensor));
  };
  PatchGrid patches = divide(true);
  const bool wide_rows = wide(queue, gradient) && wide(queue, args.input);
  const bool tensor =
      wide_rows && multiplies_by_tensor_cores(queue) &&
      std::all_of(maps.begin(), maps.end(), [&](const auto& map) { return has_small_patches(queue, map, patches); });
  if (!tensor) patches = divide(false);

  const int64_t channel_tiles = ceil_divide(channels, weight_channels(bytes));
  const int64_t output_tiles = ceil_divide(columns, kWeightOutputs);
  const int64_t tiles = channel_tiles * output_tiles;
  const WeightParts parts = weight_parts(queue, patches.count, tiles, 1, kWeightPatches);
  const int64_t count = kTaps * channels * columns;
  void* const partial = queue.allocate(parts.count * count * real_bytes(queue.element));
  const BnReluConv3x3WeightArguments<void, void> arguments{gradient,
                                                           args.grad_first_row,
                                                           args.input,
                                                           args.input_first_row,
                                                           args.norm,
                                                           channels,
                                                           patches,
                                                           partial,
                                                           static_cast<int>(channel_tiles),
                                                           static_cast<int>(output_tiles),
                                                           parts.pixels_per_part,
                                                           wide_rows};
  Launch call{"bn_relu_conv3x3_weight",
              tensor ? "bn_relu_conv3x3_weight_tensor" : "bn_relu_conv3x3_weight",
              {static_cast<unsigned>(parts.count * tiles)},
              {static_cast<unsigned>(weight_threads(tensor))}};
  call.buffers = {buffer(queue, args.input, Access::read, "input"), parts_buffer(queue, parts, partial, count)};
  add_gradient(queue, gradient, call.buffers);
  add_norm(queue, args.norm, args.input.c, call.buffers);
  call.operations = 2.0 * kTaps * strip.pixels() * args.input.c * columns;
  launch(queue, call, &arguments);
  finish_weight_parts(queue, partial, parts.count, {columns, args.input.c, kTaps, channels}, args.grad_weight);
}

}  // namespace ladderseg::cuda
