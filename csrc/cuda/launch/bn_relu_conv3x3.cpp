// Launches of BN-ReLU-conv3x3 and its backward: see ladderseg/bn_relu_conv3x3.h.
#include "../kernels/bn_relu_conv3x3.h"

#include <algorithm>

#include "bn_sums.h"
#include "columns.h"
#include "operators.h"
#include "products.h"
#include "statistics.h"
#include "sum_parts.h"

namespace ladderseg::cuda {
namespace {

constexpr int64_t kTaps = 9;
// More rows or columns than any map has, yet few enough for positions of taps to be ints. A larger dilation, cut to
// this, still moves every tap but the middle one out of the map.
constexpr int64_t kMaxExtent = 1 << 29;

// For numbers below 2^31: the rounding of the multiplier adds less than 1 / value to their quotients.
Divisor divisor(int64_t value) {
  int bits = 0;
  while (int64_t(1) << bits < value) ++bits;
  const int shift = 31 + bits;
  const uint64_t multiplier = ((uint64_t(1) << shift) + value - 1) / value;
  return {static_cast<int>(value), static_cast<unsigned>(multiplier), shift};
}

// Channels in whole chunks of 16 bytes.
int64_t padded(const Queue& queue, int64_t channels) {
  const int64_t chunk = 16 / element_bytes(queue.element);
  return ceil_divide(channels, chunk) * chunk;
}

int distance(int64_t dilation) { return static_cast<int>(std::min(dilation, kMaxExtent)); }

bool aligned(const void* data) { return reinterpret_cast<uintptr_t>(data) % 16 == 0; }

bool wide(const Norm<void>& norm) { return aligned(norm.mean) && aligned(norm.scale) && aligned(norm.shift); }

bool wide_correction(const Gradient<void>& gradient) {
  return aligned(gradient.mean) && aligned(gradient.constant) && aligned(gradient.slope);
}

Buffer weight_buffer(const Queue& queue, const void* weight, int64_t count) {
  return buffer(weight, count * element_bytes(queue.element), Access::read, "weight");
}

void backward_data(const Queue& queue, const BnReluConv3x3Backward<void>& args) {
  const FeatureMap<const void>& grad = args.grad_output.grad;
  const int64_t pixels = args.grad_input.pixels(), columns = args.input.c;
  const int64_t grad_channels = padded(queue, grad.c), padded_channels = padded(queue, columns);
  const bool wide_rows = wide(queue, args.grad_output) && aligned(args.weight);
  const bool tensor = wide_rows && multiplies_by_tensor_cores(queue);
  const int64_t row_tiles = ceil_divide(pixels, product_rows(element_bytes(queue.element), tensor));
  const int64_t column_tiles = ceil_divide(columns, kConv3x3Columns);
  const PartialSums partial = allocate_partial_sums(queue, row_tiles, columns);
  const BnReluConv3x3DataArguments<void, void> arguments{args.grad_output,
                                                         args.grad_first_row,
                                                         divisor(grad_channels),
                                                         args.input,
                                                         args.input_first_row,
                                                         args.norm,
                                                         args.weight,
                                                         static_cast<int>(padded_channels),
                                                         distance(args.dilation),
                                                         args.grad_input,
                                                         partial.data,
                                                         static_cast<int>(column_tiles),
                                                         wide_rows,
                                                         wide_correction(args.grad_output),
                                                         wide(queue, args.input) && wide(queue, args.grad_input)};
  Launch call{"bn_relu_conv3x3_data",
              tensor ? "bn_relu_conv3x3_data_tensor" : "bn_relu_conv3x3_data",
              {static_cast<unsigned>(row_tiles * column_tiles)},
              kProductBlock};
  call.buffers = {buffer(queue, args.input, Access::read, "input"),
                  weight_buffer(queue, args.weight, kTaps * grad_channels * padded_channels),
                  buffer(queue, args.grad_input, Access::write, "grad_input"), buffer(queue, partial)};
  add_gradient(queue, args.grad_output, call.buffers);
  add_norm(queue, args.norm, columns, call.buffers);
  call.operations = 2.0 * kTaps * pixels * columns * grad.c;
  launch(queue, call, &arguments);
  finish_bn_sums(queue, partial, args.sums);
}

void backward_weight(const Queue& queue, const BnReluConv3x3Backward<void>& args) {
  const FeatureMap<void>& strip = args.grad_input;
  const int64_t pixels = strip.pixels(), columns = args.grad_output.grad.c;
  const int64_t height = std::max<int64_t>(1, strip.h), width = std::max<int64_t>(1, strip.w);
  const int64_t channels = padded(queue, args.input.c), rows = kTaps * channels;
  const int bytes = element_bytes(queue.element);
  const bool wide_rows = wide(queue, args.grad_output) && wide(queue, args.input);
  const bool tensor = wide_rows && multiplies_by_tensor_cores(queue);
  const bool narrow = columns <= kNarrowColumns;
  const int64_t row_tiles = ceil_divide(rows, product_rows(bytes, tensor));
  const int64_t column_tiles = ceil_divide(columns, narrow ? kNarrowColumns : kConv3x3Columns);
  const WeightParts parts = weight_parts(queue, pixels, row_tiles * column_tiles, product_depth(bytes, tensor), 8,
                                         ceil_divide(pixels, kMaxExtent));
  const int64_t count = rows * columns;
  void* const partial = allocate_parts(queue, parts.count, count, args.grad_weight);
  const BnReluConv3x3WeightArguments<void, void> arguments{args.grad_output,
                                                           args.grad_first_row,
                                                           args.input,
                                                           args.input_first_row,
                                                           args.norm,
                                                           divisor(channels),
                                                           distance(args.dilation),
                                                           {pixels ? strip.n : 0, height, width},
                                                           divisor(height),
                                                           divisor(width),
                                                           partial,
                                                           static_cast<int>(row_tiles),
                                                           static_cast<int>(column_tiles),
                                                           parts.pixels_per_part,
                                                           wide_rows,
                                                           wide(args.norm),
                                                           wide_correction(args.grad_output)};
  const char* const kernel = tensor
                                 ? (narrow ? "bn_relu_conv3x3_weight_tensor_narrow" : "bn_relu_conv3x3_weight_tensor")
                                 : (narrow ? "bn_relu_conv3x3_weight_narrow" : "bn_relu_conv3x3_weight");
  Launch call{
      "bn_relu_conv3x3_weight", kernel, {static_cast<unsigned>(parts.count * row_tiles * column_tiles)}, kProductBlock};
  call.buffers = {buffer(queue, args.input, Access::read, "input"), parts_buffer(queue, parts, partial, count)};
  add_gradient(queue, args.grad_output, call.buffers);
  add_norm(queue, args.norm, args.input.c, call.buffers);
  call.operations = 2.0 * kTaps * pixels * args.input.c * columns;
  launch(queue, call, &arguments);
  finish_parts(queue, partial, parts.count, count, args.grad_weight);
}

}  // namespace

void bn_relu_conv3x3_forward(const Queue& queue, const BnReluConv3x3Forward<void>& args) {
  const int64_t pixels = args.output.pixels(), columns = args.output.c, channels = padded(queue, args.input.c);
  const bool wide_rows = wide(queue, args.input) && aligned(args.weight);
  const bool tensor = wide_rows && multiplies_by_tensor_cores(queue);
  const bool narrow = columns <= kNarrowColumns;
  const int64_t rows = product_rows(element_bytes(queue.element), tensor);
  const int64_t row_tiles = ceil_divide(pixels, rows);
  const int64_t column_tiles = ceil_divide(columns, narrow ? kNarrowColumns : kConv3x3Columns);
  PartialStatistics partial{};
  if (args.output_mean) partial = allocate_partial_statistics(queue, row_tiles, columns, pixels, rows);
  const BnReluConv3x3ForwardArguments<void, void> arguments{
      args.input,        args.input_first_row, args.norm,
      divisor(channels), args.weight,          distance(args.dilation),
      args.output,       partial.data,         static_cast<int>(column_tiles),
      wide_rows,         wide(args.norm),      wide(queue, args.output),
      args.accumulate};
  const char* const kernel = tensor
                                 ? (narrow ? "bn_relu_conv3x3_forward_tensor_narrow" : "bn_relu_conv3x3_forward_tensor")
                                 : (narrow ? "bn_relu_conv3x3_forward_narrow" : "bn_relu_conv3x3_forward");
  Launch call{"bn_relu_conv3x3_forward", kernel, {static_cast<unsigned>(row_tiles * column_tiles)}, kProductBlock};
  call.buffers = {buffer(queue, args.input, Access::read, "input"),
                  weight_buffer(queue, args.weight, kTaps * columns * channels),
                  buffer(queue, args.output, args.accumulate ? Access::read_write : Access::write, "output")};
  add_norm(queue, args.norm, args.input.c, call.buffers);
  if (args.output_mean) call.buffers.push_back(buffer(queue, partial));
  call.operations = 2.0 * kTaps * pixels * columns * args.input.c;
  launch(queue, call, &arguments);
  if (args.output_mean) finish_statistics(queue, partial, args.output_mean, args.output_variance);
}

void bn_relu_conv3x3_backward(const Queue& queue, const BnReluConv3x3Backward<void>& args) {
  backward_data(queue, args);
  if (args.grad_weight) backward_weight(queue, args);
}

}  // namespace ladderseg::cuda
