// Launches of the statistics of every channel: see ladderseg/channel_statistics.h.
#include "../kernels/channel_statistics.h"

#include "columns.h"
#include "operators.h"
#include "statistics.h"

namespace ladderseg::cuda {

void channel_statistics(const Queue& queue, const ChannelStatistics<void>& args) {
  const int64_t channels = args.input.c, pixels = args.input.pixels();
  // No map is large enough for a block to get 2^31 pixels.
  const ColumnGrid grid = column_grid(queue, channels, pixels, wide(queue, args.input), kMaxReductionParts);
  PartialStatistics partial =
      allocate_partial_statistics(queue, grid.parts(), channels, pixels, grid.columns.pixels_per_block);
  if (pixels > 0) partial.centre = args.input.data;
  const ChannelStatisticsArguments<void, void> arguments{args.input, partial.data, grid.columns};
  Launch call{"channel_statistics", "channel_statistics", grid.grid, grid.block};
  call.buffers = {buffer(queue, args.input, Access::read, "input"), buffer(queue, partial)};
  call.operations = 6.0 * pixels * channels;
  launch(queue, call, &arguments);
  finish_statistics(queue, partial, args.mean, args.variance);
}

}  // namespace ladderseg::cuda
