// Launches of bilinear upsampling and its transpose: see ladderseg/upsample.h.
#include "../kernels/upsample.h"

#include "columns.h"
#include "operators.h"

namespace ladderseg::cuda {

void upsample_forward(const Queue& queue, const UpsampleForward<void>& args) {
  const bool aligned = wide(queue, args.coarse) && wide(queue, args.output);
  const ColumnGrid grid = column_grid(queue, args.coarse.c, args.output.pixels(), aligned, kMaxParts);
  const UpsampleForwardArguments<void> arguments{args.coarse, args.output, args.first_row, args.height, grid.columns};
  if (args.output.pixels() == 0) return;
  Launch call{"upsample", "upsample_forward", grid.grid, grid.block};
  call.buffers = {buffer(queue, args.coarse, Access::read, "coarse"),
                  buffer(queue, args.output, Access::write, "output")};
  call.operations = 9.0 * args.output.pixels() * args.output.c;
  launch(queue, call, &arguments);
}

void upsample_backward(const Queue& queue, const UpsampleBackward<void>& args) {
  constexpr int64_t kThreads = 256;  // kColumnThreads in kernels/columns.cuh
  const FeatureMap<void>& coarse = args.grad_coarse;
  const bool aligned = wide(queue, args.grad_output) && wide(queue, coarse);
  const int64_t packs = coarse.c / (aligned ? 16 / element_bytes(queue.element) : 1);
  int64_t across = 1;  // threads side by side: a power of two, up to a warp's
  while (across < 32 && across < packs) across *= 2;
  const int64_t down = kThreads / across;
  const int64_t groups = ceil_divide(packs, across), column_tiles = ceil_divide(coarse.w, down);
  // Taller tiles read fewer rows twice; but every multiprocessor should have a few blocks.
  int64_t rows = 16;
  while (rows > 1 && coarse.n * groups * column_tiles * ceil_divide(coarse.h, rows) < 16 * multiprocessors(queue))
    rows /= 2;
  const int64_t row_tiles = ceil_divide(coarse.h, rows);
  const UpsampleBackwardArguments<void> arguments{args.grad_output, coarse, column_tiles, row_tiles, rows, aligned};
  Launch call{"upsample",
              "upsample_backward",
              {static_cast<unsigned>(coarse.n * row_tiles * column_tiles), static_cast<unsigned>(groups)},
              {static_cast<unsigned>(across), static_cast<unsigned>(down)}};
  call.buffers = {buffer(queue, args.grad_output, Access::read, "grad_output"),
                  buffer(queue, coarse, Access::write, "grad_coarse")};
  call.operations = 8.0 * args.grad_output.pixels() * coarse.c;
  launch(queue, call, &arguments);
}

}  // namespace ladderseg::cuda
