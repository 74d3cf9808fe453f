// Launch of BN-ReLU-conv3x3: see ladderseg/bn_relu_conv3x3.h.
#include "bn_relu_conv3x3.h"
#include "columns.h"
#include "patches.h"
#include "products.h"
#include "statistics.h"

namespace ladderseg::cuda {

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

}  // namespace ladderseg::cuda
