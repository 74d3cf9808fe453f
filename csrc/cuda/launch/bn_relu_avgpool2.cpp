// Launches of BN-ReLU-avgpool 2x2: see ladderseg/bn_relu_avgpool2.h.
#include "../kernels/bn_relu_avgpool2.h"

#include "bn_sums.h"
#include "columns.h"
#include "operators.h"

namespace ladderseg::cuda {

void bn_relu_avgpool2_forward(const Queue& queue, const BnReluAvgpool2Forward<void>& args) {
  const bool aligned = wide(queue, args.input) && wide(queue, args.output);
  const ColumnGrid grid = column_grid(queue, args.output.c, args.output.pixels(), aligned, kMaxParts);
  const BnReluAvgpool2ForwardArguments<void, void> arguments{args.input, args.norm, args.output, grid.columns};
  Launch call{"bn_relu_avgpool2", "bn_relu_avgpool2_forward", grid.grid, grid.block};
  call.buffers = {buffer(queue, args.input, Access::read, "input"),
                  buffer(queue, args.output, Access::write, "output")};
  add_norm(queue, args.norm, args.input.c, call.buffers);
  call.operations = 16.0 * args.output.pixels() * args.output.c;
  launch(queue, call, &arguments);
}

void bn_relu_avgpool2_backward(const Queue& queue, const BnReluAvgpool2Backward<void>& args) {
  const int64_t channels = args.input.c;
  const bool aligned = wide(queue, args.grad_output) && wide(queue, args.input) && wide(queue, args.grad_input);
  // Pixels that are not pooled stay unchanged or get a zero.
  const int64_t cell_rows = args.accumulate ? args.grad_output.h : ceil_divide(args.input.h, 2);
  const int64_t cell_columns = args.accumulate ? args.grad_output.w : ceil_divide(args.input.w, 2);
  const ColumnGrid grid =
      column_grid(queue, channels, args.input.n * cell_rows * cell_columns, aligned, kMaxReductionParts);
  const PartialSums partial = allocate_partial_sums(queue, grid.parts(), channels);
  const BnReluAvgpool2BackwardArguments<void, void> arguments{args.grad_output, args.input,   args.norm,
                                                              args.grad_input,  partial.data, cell_rows,
                                                              cell_columns,     grid.columns, args.accumulate};
  Launch call{"bn_relu_avgpool2", "bn_relu_avgpool2_backward", grid.grid, grid.block};
  call.buffers = {buffer(queue, args.grad_output, Access::read, "grad_output"),
                  buffer(queue, args.input, Access::read, "input"),
                  buffer(queue, args.grad_input, args.accumulate ? Access::read_write : Access::write, "grad_input"),
                  buffer(queue, partial)};
  add_norm(queue, args.norm, channels, call.buffers);
  call.operations = 8.0 * args.input.pixels() * channels;
  launch(queue, call, &arguments);
  finish_bn_sums(queue, partial, args.sums);
}

}  // namespace ladderseg::cuda
