// Launch of the backward of BN-ReLU-conv3x3 for the weight: see ladderseg/bn_relu_conv3x3.h.
#include "bn_relu_conv3x3.h"
#include "columns.h"
#include "patches.h"
#include "products.h"
#include "sum_parts.h"

namespace ladderseg::cuda {

void conv3x3_backward_weight(const Queue& queue, const BnReluConv3x3Backward<void>& args) {
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

}  // namespace ladderseg::cuda
