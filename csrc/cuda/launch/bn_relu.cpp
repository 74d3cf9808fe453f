// Launches of BN-ReLU: see ladderseg/bn_relu.h.
#include "../kernels/bn_relu.h"

#include "bn_sums.h"
#include "columns.h"
#include "operators.h"

namespace ladderseg::cuda {

void bn_relu_forward(const Queue& queue, const BnReluForward<void>& args) {
  const bool aligned = wide(queue, args.input) && wide(queue, args.output);
  const ColumnGrid grid = column_grid(queue, args.input.c, args.input.pixels(), aligned, kMaxParts);
  const BnReluForwardArguments<void, void> arguments{args.input, args.norm, args.output, grid.columns};
  Launch call{"bn_relu", "bn_relu_forward", grid.grid, grid.block};
  call.buffers = {buffer(queue, args.input, Access::read, "input"),
                  buffer(queue, args.output, Access::write, "output")};
  add_norm(queue, args.norm, args.input.c, call.buffers);
  call.operations = 3.0 * args.input.pixels() * args.input.c;
  launch(queue, call, &arguments);
}

void bn_relu_backward(const Queue& queue, const BnReluBackward<void>& args) {
  const bool aligned = wide(queue, args.grad_output) && wide(queue, args.input) && wide(queue, args.grad_input);
  const ColumnGrid grid = column_grid(queue, args.input.c, args.input.pixels(), aligned, kMaxReductionParts);
  const PartialSums partial = allocate_partial_sums(queue, grid.parts(), args.input.c);
  const BnReluBackwardArguments<void, void> arguments{args.grad_output, args.input,   args.norm,      args.grad_input,
                                                      partial.data,     grid.columns, args.accumulate};
  Launch call{"bn_relu", "bn_relu_backward", grid.grid, grid.block};
  call.buffers = {buffer(queue, args.grad_output, Access::read, "grad_output"),
                  buffer(queue, args.input, Access::read, "input"),
                  buffer(queue, args.grad_input, args.accumulate ? Access::read_write : Access::write, "grad_input"),
                  buffer(queue, partial)};
  add_norm(queue, args.norm, args.input.c, call.buffers);
  call.operations = 8.0 * args.input.pixels() * args.input.c;
  launch(queue, call, &arguments);
  finish_bn_sums(queue, partial, args.sums);
}

}  // namespace ladderseg::cuda
