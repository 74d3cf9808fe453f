// Launches of batch norm, sum with a shortcut and ReLU: see ladderseg/bn_add_relu.h.
#include "../kernels/bn_add_relu.h"

#include "bn_sums.h"
#include "columns.h"
#include "operators.h"

namespace ladderseg::cuda {

void bn_add_relu_forward(const Queue& queue, const BnAddReluForward<void>& args) {
  const int64_t channels = args.output.c, pixels = args.output.pixels();
  const bool aligned = wide(queue, args.input) && wide(queue, args.shortcut) && wide(queue, args.output);
  const ColumnGrid grid = column_grid(queue, channels, pixels, aligned, kMaxParts);
  const InColumns<BnAddReluForward<void>> arguments{args, grid.columns};
  Launch call{"bn_add_relu", "bn_add_relu_forward", grid.grid, grid.block};
  call.buffers = {buffer(queue, args.input, Access::read, "input"),
                  buffer(queue, args.shortcut, Access::read, "shortcut"),
                  buffer(queue, args.output, Access::write, "output")};
  add_norm(queue, args.norm, channels, call.buffers);
  if (args.shortcut_norm.mean) add_norm(queue, args.shortcut_norm, channels, call.buffers);
  call.operations = (args.shortcut_norm.mean ? 7.0 : 4.0) * pixels * channels;
  launch(queue, call, &arguments);
}

void bn_add_relu_backward(const Queue& queue, const BnAddReluBackward<void>& args) {
  const int64_t channels = args.input.c, pixels = args.input.pixels();
  const bool has_shortcut_norm = args.shortcut_norm.mean;
  const auto wide_or_absent = [&](const auto& map) { return !map.data || wide(queue, map); };
  const bool maps_aligned = wide(queue, args.grad_output) && wide(queue, args.output) && wide(queue, args.input) &&
                            wide_or_absent(args.shortcut) && wide_or_absent(args.grad_input) &&
                            wide_or_absent(args.grad_shortcut);
  // The kernel reads these vectors as often as the maps.
  const bool vectors_aligned =
      wide_correction(args.grad_output) && aligned(args.shortcut_norm.mean) && aligned(args.shortcut_norm.scale);
  const ColumnGrid grid = column_grid(queue, channels, pixels, maps_aligned && vectors_aligned, kMaxReductionParts);
  const PartialSums partial = allocate_partial_sums(queue, grid.parts(), channels);
  PartialSums shortcut_partial{nullptr, grid.parts(), channels};
  if (has_shortcut_norm) shortcut_partial = allocate_partial_sums(queue, grid.parts(), channels);
  const BnAddReluBackwardArguments<void, void> arguments{args, partial.data, shortcut_partial.data, grid.columns};
  Launch call{"bn_add_relu", "bn_add_relu_backward", grid.grid, grid.block};
  add_gradient(queue, args.grad_output, call.buffers);
  call.buffers.push_back(buffer(queue, args.output, Access::read, "output"));
  call.buffers.push_back(buffer(queue, args.input, Access::read, "input"));
  call.buffers.push_back(vector_buffer(queue, args.norm.mean, channels, "mean"));
  call.buffers.push_back(vector_buffer(queue, args.norm.scale, channels, "scale"));
  if (args.grad_input.data) call.buffers.push_back(buffer(queue, args.grad_input, Access::write, "grad_input"));
  if (args.grad_shortcut.data) {
    const Access access = args.accumulate ? Access::read_write : Access::write;
    call.buffers.push_back(buffer(queue, args.grad_shortcut, access, "grad_shortcut"));
  }
  call.buffers.push_back(buffer(queue, partial));
  if (has_shortcut_norm) {
    call.buffers.push_back(buffer(queue, args.shortcut, Access::read, "shortcut"));
    call.buffers.push_back(vector_buffer(queue, args.shortcut_norm.mean, channels, "shortcut's mean"));
    call.buffers.push_back(vector_buffer(queue, args.shortcut_norm.scale, channels, "shortcut's scale"));
    call.buffers.push_back(buffer(queue, shortcut_partial));
  }
  call.operations = (has_shortcut_norm ? 9.0 : 5.0) * pixels * channels;
  launch(queue, call, &arguments);
  finish_bn_sums(queue, partial, args.sums);
  if (has_shortcut_norm) finish_bn_sums(queue, shortcut_partial, args.shortcut_sums);
}

}  // namespace ladderseg::cuda
