#include "../kernels/bn_relu_conv1x1.h"

#include <algorithm>

#include "../kernels/product.h"
#include "bn_sums.h"
#include "columns.h"
#include "operators.h"
#include "statistics.h"

namespace ladderseg::cuda {
namespace {

// Whether the device's tensor cores multiply this element type (kernels/product_tensor.cuh).
bool has_tensor_cores(const Queue& queue) {
  switch (queue.element) {
    case Element::float16: return capability(queue) >= 75;
    case Element::bfloat16: return capability(queue) >= 80;
    case Element::float32: return queue.allow_tf32 && capability(queue) >= 80;
    default: return false;
  }
}

// Whether the rows of a [rows, columns] matrix are whole chunks of 16 bytes.
bool wide_rows(const Queue& queue, const void* data, int64_t columns) {
  return reinterpret_cast<uintptr_t>(data) % 16 == 0 && columns * element_bytes(queue.element) % 16 == 0;
}

bool wide(const Queue& queue, const CorrectedGradient<void>& gradient) {
  return wide(queue, gradient.grad) && (!gradient.input.data || wide(queue, gradient.input));
}

Buffer weight_buffer(const Queue& queue, const void* weight, int64_t rows, int64_t columns) {
  return buffer(weight, rows * columns * element_bytes(queue.element), Access::read, "weight");
}

const Size kBlock{kProductThreads};

void backward_data(const Queue& queue, const BnReluConv1x1Backward<void>& args) {
  const int64_t pixels = args.input.pixels(), columns = args.input.c, depth = args.grad_output.grad.c;
  const bool aligned = wide(queue, args.grad_output) && wide_rows(queue, args.weight, columns);
  const bool tensor = aligned && has_tensor_cores(queue);
  const int64_t rows = product_rows(element_bytes(queue.element), tensor);
  const int64_t row_tiles = ceil_divide(pixels, rows), column_tiles = ceil_divide(columns, kBackwardColumns);
  const bool aligned_input = wide(queue, args.input) && (!args.grad_input.data || wide(queue, args.grad_input));
  const PartialSums partial = allocate_partial_sums(queue, row_tiles, columns);
  const BnReluConv1x1DataArguments<void, void> arguments{gradient(args.grad_output),
                                                         map(args.input),
                                                         norm(args.norm),
                                                         args.weight,
                                                         map(args.grad_input),
                                                         partial.data,
                                                         static_cast<int>(column_tiles),
                                                         aligned,
                                                         aligned_input,
                                                         args.accumulate && args.grad_input.data};
  Launch call{"bn_relu_conv1x1_data", tensor ? "bn_relu_conv1x1_data_tensor" : "bn_relu_conv1x1_data",
              {static_cast<unsigned>(row_tiles * column_tiles)}, kBlock};
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
  constexpr int64_t kBlocksPerProcessor = 4;  // two rounds of two
  constexpr int64_t kStepsPerPart = 8;        // at least: a part is written and read once more
  const int64_t pixels = args.input.pixels(), rows = args.grad_output.grad.c, columns = args.input.c;
  const int bytes = element_bytes(queue.element);
  const bool aligned = wide(queue, args.grad_output) && wide(queue, args.input);
  const bool tensor = aligned && has_tensor_cores(queue);
  const int64_t row_tiles = ceil_divide(rows, product_rows(bytes, tensor));
  const int64_t column_tiles = ceil_divide(columns, kBackwardColumns);
  const int64_t depth = product_depth(bytes, tensor);
  const int64_t wanted = ceil_divide(kBlocksPerProcessor * multiprocessors(queue), row_tiles * column_tiles);
  const int64_t most = ceil_divide(pixels, kStepsPerPart * depth);
  const int64_t share = ceil_divide(pixels, std::max<int64_t>(1, std::min(wanted, most)));
  const int64_t pixels_per_part = std::max<int64_t>(1, ceil_divide(share, depth)) * depth;
  const int64_t parts = std::max<int64_t>(1, ceil_divide(pixels, pixels_per_part));
  void* const partial = parts == 1 ? args.grad_weight : queue.allocate(parts * rows * columns * real_bytes(queue.element));
  const BnReluConv1x1WeightArguments<void, void> arguments{
      gradient(args.grad_output),    map(args.input), norm(args.norm), partial, static_cast<int>(row_tiles),
      static_cast<int>(column_tiles), pixels_per_part, aligned};
  Launch call{"bn_relu_conv1x1_weight", tensor ? "bn_relu_conv1x1_weight_tensor" : "bn_relu_conv1x1_weight",
              {static_cast<unsigned>(parts * row_tiles * column_tiles)}, kBlock};
  call.buffers = {buffer(queue, args.input, Access::read, "input"),
                  vector_buffer(queue, partial, parts * rows * columns, "partial weight gradients", Access::write)};
  add_gradient(queue, args.grad_output, call.buffers);
  add_norm(queue, args.norm, columns, call.buffers);
  call.operations = 2.0 * pixels * columns * rows;
  launch(queue, call, &arguments);
  if (parts == 1) return;
  const int64_t count = rows * columns;
  const SumPartsArguments<void> sum{partial, parts, count, args.grad_weight};
  launch(queue,
         {"bn_relu_conv1x1_weight", "sum_parts", {static_cast<unsigned>(ceil_divide(count, kProductThreads))}, kBlock,
          {vector_buffer(queue, partial, parts * count, "partial weight gradients"),
           vector_buffer(queue, args.grad_weight, count, "grad_weight", Access::write)},
          1.0 * parts * count},
         &sum);
}

}  // namespace

void bn_relu_conv1x1_forward(const Queue& queue, const BnReluConv1x1Forward<void>& args) {
  const int64_t pixels = args.input.pixels(), columns = args.output.c, depth = args.input.c;
  const int bytes = element_bytes(queue.element);
  const bool aligned = wide(queue, args.input) && wide_rows(queue, args.weight, depth);
  const bool tensor = aligned && has_tensor_cores(queue);
  const bool narrow = columns <= kNarrowColumns || !aligned;
  const int64_t rows = product_rows(bytes, tensor);
  const int64_t row_tiles = ceil_divide(pixels, rows);
  const int64_t column_tiles = ceil_divide(columns, narrow ? kNarrowColumns : product_columns(bytes, tensor));
  PartialStatistics partial{};
  if (args.output_mean) partial = allocate_partial_statistics(queue, row_tiles, columns, pixels, rows);
  const BnReluConv1x1ForwardArguments<void, void> arguments{map(args.input),
                                                            norm(args.norm),
                                                            args.weight,
                                                            map(args.output),
                                                            partial.data,
                                                            static_cast<int>(column_tiles),
                                                            aligned,
                                                            wide(queue, args.output)};
  const char* const kernel = tensor ? (narrow ? "bn_relu_conv1x1_forward_tensor_narrow" : "bn_relu_conv1x1_forward_tensor")
                                    : (narrow ? "bn_relu_conv1x1_forward_narrow" : "bn_relu_conv1x1_forward");
  Launch call{"bn_relu_conv1x1_forward", kernel, {static_cast<unsigned>(row_tiles * column_tiles)}, kBlock};
  call.buffers = {buffer(queue, args.input, Access::read, "input"), weight_buffer(queue, args.weight, columns, depth),
                  buffer(queue, args.output, Access::write, "output")};
  add_norm(queue, args.norm, depth, call.buffers);
  if (args.output_mean) call.buffers.push_back(buffer(queue, partial));
  call.operations = 2.0 * pixels * columns * depth;
  launch(queue, call, &arguments);
  if (args.output_mean) finish_statistics(queue, partial, args.output_mean, args.output_variance);
}

void bn_relu_conv1x1_backward(const Queue& queue, const BnReluConv1x1Backward<void>& args) {
  backward_data(queue, args);
  if (args.grad_weight) backward_weight(queue, args);
}

}  // namespace ladderseg::cuda
