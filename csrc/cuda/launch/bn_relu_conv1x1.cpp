// Launches of BN-ReLU-conv1x1 and its backward: see ladderseg/bn_relu_conv1x1.h.
#include "../kernels/bn_relu_conv1x1.h"

#include "../kernels/one_pass.h"
#include "bn_sums.h"
#include "columns.h"
#include "operators.h"
#include "products.h"
#include "statistics.h"
#include "sum_parts.h"

namespace ladderseg::cuda {
namespace {

// Whether a map and its vectors can be read 16 bytes at a time.
bool wide_with_vectors(const Queue& queue, const FeatureMap<const void>& input, const Norm<void>& norm) {
  return wide(queue, input) && wide(norm);
}
bool wide_with_vectors(const Queue& queue, const Gradient<void>& gradient) {
  return wide(queue, gradient) && wide_correction(gradient);
}

// Whether the rows of a [rows, columns] matrix are whole chunks of 16 bytes.
bool wide_rows(const Queue& queue, const void* data, int64_t columns) {
  return aligned(data) && columns * element_bytes(queue.element) % 16 == 0;
}

Buffer weight_buffer(const Queue& queue, const void* weight, int64_t rows, int64_t columns) {
  return buffer(weight, rows * columns * element_bytes(queue.element), Access::read, "weight");
}

void backward_data(const Queue& queue, const BnReluConv1x1Backward<void>& args) {
  const int64_t pixels = args.input.pixels(), columns = args.input.c, depth = args.grad_output.grad.c;
  const bool aligned = wide_with_vectors(queue, args.grad_output) && wide_rows(queue, args.weight, columns);
  const bool tensor = aligned && multiplies_by_tensor_cores(queue);
  const int64_t rows = product_rows(element_bytes(queue.element), tensor);
  const int64_t row_tiles = ceil_divide(pixels, rows), column_tiles = ceil_divide(columns, kBackwardColumns);
  const bool aligned_input = wide(queue, args.input) && (!args.grad_input.data || wide(queue, args.grad_input));
  const PartialSums partial = allocate_partial_sums(queue, row_tiles, columns);
  const BnReluConv1x1DataArguments<void, void> arguments{args.grad_output,
                                                         args.input,
                                                         args.norm,
                                                         args.weight,
                                                         args.grad_input,
                                                         partial.data,
                                                         static_cast<int>(column_tiles),
                                                         aligned,
                                                         aligned_input,
                                                         args.accumulate && args.grad_input.data};
  Launch call{"bn_relu_conv1x1_data",
              tensor ? "bn_relu_conv1x1_data_tensor" : "bn_relu_conv1x1_data",
              {static_cast<unsigned>(row_tiles * column_tiles)},
              kProductBlock};
  call.buffers = {buffer(queue, args.input, Access::read, "input"), weight_buffer(queue, args.weight, depth, columns),
                  buffer(queue, partial)};
  add_gradient(queue, args.grad_output, call.buffers);
  add_norm(queue, args.norm, columns, call.buffers);
  if (args.grad_input.data)
    call.buffers.push_back(
        buffer(queue, args.grad_input, args.accumulate ? Access::read_write : Access::write, "grad_input"));
  call.operations = 2.0 * pixels * columns * depth;
  launch(queue, call, &arguments);
  finish_bn_sums(queue, partial, args.sums);
}

void backward_weight(const Queue& queue, const BnReluConv1x1Backward<void>& args) {
  const int64_t pixels = args.input.pixels(), rows = args.grad_output.grad.c, columns = args.input.c;
  const int bytes = element_bytes(queue.element);
  const bool aligned = wide_with_vectors(queue, args.grad_output) && wide_with_vectors(queue, args.input, args.norm);
  const bool tensor = aligned && multiplies_by_tensor_cores(queue);
  const int64_t row_tiles = ceil_divide(rows, product_rows(bytes, tensor));
  const int64_t column_tiles = ceil_divide(columns, kBackwardColumns);
  const WeightParts parts = weight_parts(queue, pixels, row_tiles * column_tiles, product_depth(bytes, tensor), 8);
  void* const partial = allocate_parts(queue, parts.count, rows * columns, args.grad_weight);
  const BnReluConv1x1WeightArguments<void, void> arguments{args.grad_output,
                                                           args.input,
                                                           args.norm,
                                                           partial,
                                                           static_cast<int>(row_tiles),
                                                           static_cast<int>(column_tiles),
                                                           parts.pixels_per_part,
                                                           aligned};
  Launch call{"bn_relu_conv1x1_weight",
              tensor ? "bn_relu_conv1x1_weight_tensor" : "bn_relu_conv1x1_weight",
              {static_cast<unsigned>(parts.count * row_tiles * column_tiles)},
              kProductBlock};
  call.buffers = {buffer(queue, args.input, Access::read, "input"),
                  parts_buffer(queue, parts, partial, rows * columns)};
  add_gradient(queue, args.grad_output, call.buffers);
  add_norm(queue, args.norm, columns, call.buffers);
  call.operations = 2.0 * pixels * columns * rows;
  launch(queue, call, &arguments);
  finish_parts(queue, partial, parts.count, rows * columns, args.grad_weight);
}

// Launches both gradients in one pass over the maps.
void backward_in_one_pass(const Queue& queue, const BnReluConv1x1Backward<void>& args) {
  const int64_t pixels = args.input.pixels(), rows = args.grad_output.grad.c, columns = args.input.c;
  const int bytes = element_bytes(queue.element);
  const bool aligned = wide(queue, args.grad_output) && wide_rows(queue, args.weight, columns);
  const bool aligned_input = wide(queue, args.input) && (!args.grad_input.data || wide(queue, args.grad_input));
  const bool tensor = aligned && aligned_input && multiplies_by_tensor_cores(queue);
  const int64_t column_tiles = ceil_divide(columns, one_pass_columns(bytes, tensor));
  const WeightParts parts = weight_parts(queue, pixels, column_tiles, one_pass_pixels(bytes, tensor), 2);
  const PartialSums sums = allocate_partial_sums(queue, parts.count, columns);
  void* const partial = allocate_parts(queue, parts.count, rows * columns, args.grad_weight);
  const BnReluConv1x1BackwardArguments<void, void> arguments{
      args.grad_output,      args.input, args.norm,     args.weight,
      args.grad_input,       sums.data,  partial,       static_cast<int>(column_tiles),
      parts.pixels_per_part, aligned,    aligned_input, args.accumulate && args.grad_input.data};
  Launch call{"bn_relu_conv1x1_backward",
              tensor ? "bn_relu_conv1x1_backward_tensor" : "bn_relu_conv1x1_backward",
              {static_cast<unsigned>(parts.count * column_tiles)},
              kProductBlock};
  call.buffers = {buffer(queue, args.input, Access::read, "input"), weight_buffer(queue, args.weight, rows, columns),
                  buffer(queue, sums), parts_buffer(queue, parts, partial, rows * columns)};
  add_gradient(queue, args.grad_output, call.buffers);
  add_norm(queue, args.norm, columns, call.buffers);
  if (args.grad_input.data)
    call.buffers.push_back(
        buffer(queue, args.grad_input, args.accumulate ? Access::read_write : Access::write, "grad_input"));
  call.operations = 4.0 * pixels * columns * rows;
  launch(queue, call, &arguments);
  finish_bn_sums(queue, sums, args.sums);
  finish_parts(queue, partial, parts.count, rows * columns, args.grad_weight);
}

}  // namespace

void bn_relu_conv1x1_forward(const Queue& queue, const BnReluConv1x1Forward<void>& args) {
  const int64_t pixels = args.input.pixels(), columns = args.output.c, depth = args.input.c;
  const int bytes = element_bytes(queue.element);
  const bool aligned = wide_with_vectors(queue, args.input, args.norm) && wide_rows(queue, args.weight, depth);
  const bool tensor = aligned && multiplies_by_tensor_cores(queue);
  const bool narrow = columns <= kNarrowColumns || !aligned;
  const int64_t rows = product_rows(bytes, tensor);
  const int64_t row_tiles = ceil_divide(pixels, rows);
  const int64_t column_tiles = ceil_divide(columns, narrow ? kNarrowColumns : product_columns(bytes, tensor));
  PartialStatistics partial{};
  if (args.output_mean) partial = allocate_partial_statistics(queue, row_tiles, columns, pixels, rows);
  const BnReluConv1x1ForwardArguments<void, void> arguments{args.input,   args.norm,
                                                            args.weight,  args.output,
                                                            partial.data, static_cast<int>(column_tiles),
                                                            aligned,      wide(queue, args.output)};
  const char* const kernel = tensor
                                 ? (narrow ? "bn_relu_conv1x1_forward_tensor_narrow" : "bn_relu_conv1x1_forward_tensor")
                                 : (narrow ? "bn_relu_conv1x1_forward_narrow" : "bn_relu_conv1x1_forward");
  Launch call{"bn_relu_conv1x1_forward", kernel, {static_cast<unsigned>(row_tiles * column_tiles)}, kProductBlock};
  call.buffers = {buffer(queue, args.input, Access::read, "input"), weight_buffer(queue, args.weight, columns, depth),
                  buffer(queue, args.output, Access::write, "output")};
  add_norm(queue, args.norm, depth, call.buffers);
  if (args.output_mean) call.buffers.push_back(buffer(queue, partial));
  call.operations = 2.0 * pixels * columns * depth;
  launch(queue, call, &arguments);
  if (args.output_mean) finish_statistics(queue, partial, args.output_mean, args.output_variance);
}

void bn_relu_conv1x1_backward(const Queue& queue, const BnReluConv1x1Backward<void>& args) {
  if (args.grad_weight && args.grad_output.grad.c <= kOnePassGradients) {
    backward_in_one_pass(queue, args);
    return;
  }
  backward_data(queue, args);
  if (args.grad_weight) backward_weight(queue, args);
}

}  // namespace ladderseg::cuda
