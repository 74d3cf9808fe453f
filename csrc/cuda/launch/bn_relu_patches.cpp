// Launches of BN-ReLU of the patches of a 3x3 convolution with stride 2: see ladderseg/bn_relu_patches.h.
#include "../kernels/bn_relu_patches.h"

#include "bn_sums.h"
#include "columns.h"
#include "operators.h"

namespace ladderseg::cuda {

void bn_relu_patches_forward(const Queue& queue, const BnReluPatchesForward<void>& args) {
  const int64_t channels = args.input.c, patches = args.output.pixels();
  const bool aligned = wide(queue, args.input) && wide(queue, args.output);
  const ColumnGrid grid = column_grid(queue, channels, patches, aligned, kMaxParts);
  const InColumns<BnReluPatchesForward<void>> arguments{args, grid.columns};
  Launch call{"bn_relu_patches", "bn_relu_patches_forward", grid.grid, grid.block};
  call.buffers = {buffer(queue, args.input, Access::read, "input"),
                  buffer(queue, args.output, Access::write, "output")};
  add_norm(queue, args.norm, channels, call.buffers);
  call.operations = 27.0 * patches * channels;
  launch(queue, call, &arguments);
}

void bn_relu_patches_backward(const Queue& queue, const BnReluPatchesBackward<void>& args) {
  const int64_t channels = args.input.c, height = args.input.h;
  const bool aligned = wide(queue, args.grad_output) && wide(queue, args.input) && wide(queue, args.grad_input);
  const int64_t rows_above = ceil_divide(args.first_row, 2);  // of cells, above the first patches
  const int64_t cell_rows = height > 0 ? rows_above + ceil_divide(height - args.first_row, 2) : 0;
  const int64_t cell_columns = ceil_divide(args.input.w, 2);
  const ColumnGrid grid =
      column_grid(queue, channels, args.input.n * cell_rows * cell_columns, aligned, kMaxReductionParts);
  const PartialSums partial = allocate_partial_sums(queue, grid.parts(), channels);
  const BnReluPatchesBackwardArguments<void, void> arguments{args,      partial.data, -rows_above,
                                                             cell_rows, cell_columns, grid.columns};
  Launch call{"bn_relu_patches", "bn_relu_patches_backward", grid.grid, grid.block};
  call.buffers = {buffer(queue, args.grad_output, Access::read, "grad_output"),
                  buffer(queue, args.input, Access::read, "input"),
                  buffer(queue, args.grad_input, args.add_first_row ? Access::read_write : Access::write, "grad_input"),
                  buffer(queue, partial)};
  add_norm(queue, args.norm, channels, call.buffers);
  call.operations = 10.0 * args.input.pixels() * channels;
  launch(queue, call, &arguments);
  finish_bn_sums(queue, partial, args.sums);
}

}  // namespace ladderseg::cuda
