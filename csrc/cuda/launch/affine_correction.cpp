// Launch of the deferred batch norm correction: see ladderseg/affine_correction.h.
#include "columns.h"
#include "operators.h"

namespace ladderseg::cuda {

void affine_correction(const Queue& queue, const AffineCorrection<void>& args) {
  const Gradient<void>& gradient = args.gradient;
  const int64_t channels = args.output.c, pixels = args.output.pixels();
  const bool aligned = wide(queue, gradient.grad) && wide(queue, gradient.input) && wide(queue, args.output);
  const ColumnGrid grid = column_grid(queue, channels, pixels, aligned, kMaxParts);
  const InColumns<AffineCorrection<void>> arguments{args, grid.columns};
  Launch call{"affine_correction", "affine_correction", grid.grid, grid.block};
  if (gradient.grad.data == args.output.data) {
    call.buffers = {buffer(queue, args.output, Access::read_write, "grad, output")};
  } else {
    call.buffers = {buffer(queue, gradient.grad, Access::read, "grad"),
                    buffer(queue, args.output, Access::write, "output")};
  }
  call.buffers.push_back(buffer(queue, gradient.input, Access::read, "input"));
  call.buffers.push_back(vector_buffer(queue, gradient.mean, channels, "mean"));
  call.buffers.push_back(vector_buffer(queue, gradient.constant, channels, "constant"));
  call.buffers.push_back(vector_buffer(queue, gradient.slope, channels, "slope"));
  call.operations = 4.0 * pixels * channels;
  launch(queue, call, &arguments);
}

}  // namespace ladderseg::cuda
