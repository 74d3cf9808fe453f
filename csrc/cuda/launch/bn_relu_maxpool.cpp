// Launches of BN-ReLU-maxpool 3x3/2: see ladderseg/bn_relu_maxpool.h.
#include "bn_relu_maxpool.h"

#include <algorithm>

#include "../kernels/bn_relu_maxpool.h"
#include "columns.h"
#include "operators.h"

namespace ladderseg::cuda {
namespace {

// Rows of windows per thread of the backward; it searches one more row, whose gradients reach its first input rows.
constexpr int64_t kRunRows = 8;

// Quotient rounded down, for negative numbers too.
int64_t half(int64_t value) { return (value - (value & 1)) / 2; }

}  // namespace

void bn_relu_maxpool_forward(const Queue& queue, const BnReluMaxpoolForward<void>& args) {
  const int64_t channels = args.input.c;
  const bool aligned = wide(queue, args.input) && wide(queue, args.output);
  const ColumnGrid grid = column_grid(queue, channels, args.output.pixels(), aligned, kMaxParts);
  const BnReluMaxpoolForwardArguments<void, void> arguments{args.input, args.norm, args.output, grid.columns,
                                                            args.first_row};
  Launch call{"bn_relu_maxpool", "bn_relu_maxpool_forward", grid.grid, grid.block};
  call.buffers = {buffer(queue, args.input, Access::read, "input"),
                  buffer(queue, args.output, Access::write, "output")};
  if (args.norm.mean)
    add_norm(queue, args.norm, channels, call.buffers);
  else
    call.buffers.push_back(vector_buffer(queue, args.norm.scale, channels, "scale"));
  call.operations = 27.0 * args.output.pixels() * channels;
  launch(queue, call, &arguments);
}

int64_t bn_relu_maxpool_backward_in_parts(const Queue& queue, const BnReluMaxpoolBackward<void>& args,
                                          const MaxpoolCorrection& correction, void* partial_sums) {
  const int64_t channels = args.input.c;
  const bool aligned = wide(queue, args.grad_output) && wide(queue, args.input) &&
                       (!args.grad_input.data || wide(queue, args.grad_input));
  // Row q of windows completes rows 2q - 1 and 2q of the input, counted from first_row.
  const int64_t first_row = args.first_grad_row - args.first_row;
  const int64_t first_window_row = half(first_row + 1);
  const int64_t window_rows = args.grad_input.h > 0 ? half(first_row + args.grad_input.h) - first_window_row + 1 : 0;
  const int64_t run_rows = std::max<int64_t>(1, std::min(kRunRows, window_rows));
  const int64_t runs = ceil_divide(window_rows, run_rows), run_columns = ceil_divide(args.input.w, 2);
  // A run of a few rows is work enough for a thread, so blocks get as many as column_grid gives them of single windows.
  const int64_t all_runs = args.input.n * runs * run_columns;
  // A thread has four channels (kBackwardWide in the kernel) where others have eight.
  const int64_t columns = aligned && element_bytes(queue.element) == 2 ? 2 * channels : channels;
  ColumnGrid grid = column_grid(queue, columns, all_runs * run_rows, aligned, kMaxReductionParts);
  const int64_t runs_per_block = std::max<int64_t>(grid.block.y, ceil_divide(grid.columns.pixels_per_block, run_rows));
  grid.columns.pixels_per_block = runs_per_block;
  grid.grid.y = static_cast<unsigned>(std::max<int64_t>(1, ceil_divide(all_runs, runs_per_block)));
  const PartialSums partial{partial_sums, grid.parts(), channels};
  const BnReluMaxpoolBackwardArguments<void, void> arguments{
      args.grad_output, args.input,   args.norm,      args.grad_input,     correction.constant,
      correction.slope, partial.data, args.first_row, args.first_grad_row, first_window_row,
      run_rows,         run_columns,  runs,           grid.columns};
  Launch call{"bn_relu_maxpool", "bn_relu_maxpool_backward", grid.grid, grid.block};
  call.buffers = {buffer(queue, args.grad_output, Access::read, "grad_output"),
                  buffer(queue, args.input, Access::read, "input"), buffer(queue, partial)};
  if (args.grad_input.data) call.buffers.push_back(buffer(queue, args.grad_input, Access::write, "grad_input"));
  if (correction.constant) {
    call.buffers.push_back(vector_buffer(queue, correction.constant, channels, "constant"));
    call.buffers.push_back(vector_buffer(queue, correction.slope, channels, "slope"));
  }
  add_norm(queue, args.norm, channels, call.buffers);
  call.operations = 21.0 * args.grad_input.pixels() * channels;
  launch(queue, call, &arguments);
  return partial.parts;
}

void bn_relu_maxpool_backward(const Queue& queue, const BnReluMaxpoolBackward<void>& args) {
  PartialSums partial = allocate_partial_sums(queue, kMaxReductionParts, args.input.c);
  partial.parts = bn_relu_maxpool_backward_in_parts(queue, args, {}, partial.data);
  finish_bn_sums(queue, partial, args.sums);
}

}  // namespace ladderseg::cuda
