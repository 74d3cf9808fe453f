// Launches of the statistics of every channel: see ladderseg/channel_statistics.h.
#include "channel_statistics.h"

#include <algorithm>

#include "../kernels/channel_statistics.h"
#include "columns.h"
#include "operators.h"

namespace ladderseg::cuda {
namespace {

bool wide(const Queue& queue, const FeatureMap<const void>& input, const PartialStatistics& partial) {
  return wide(queue, input) && reinterpret_cast<uintptr_t>(partial.centre) % 16 == 0;
}

void write_parts(const Queue& queue, const FeatureMap<const void>& input, const ColumnGrid& grid,
                 const PartialStatistics& partial) {
  const int64_t channels = input.c;
  const ChannelStatisticsArguments<void, void> arguments{input, partial.centre, partial.data, grid.columns};
  Launch call{"channel_statistics", "channel_statistics", grid.grid, grid.block};
  call.buffers = {buffer(queue, input, Access::read, "input"), buffer(queue, partial)};
  if (partial.centre != input.data)
    call.buffers.push_back(buffer(partial.centre, channels * element_bytes(queue.element), Access::read, "centre"));
  call.operations = 6.0 * input.pixels() * channels;
  launch(queue, call, &arguments);
}

}  // namespace

void channel_statistics_of_strip(const Queue& queue, const FeatureMap<const void>& input, int64_t first,
                                 const PartialStatistics& partial) {
  const int64_t size = partial.positions_per_part, parts = input.pixels() / size;
  const int64_t part_bytes = 2 * partial.channels * real_bytes(queue.element);
  ColumnGrid grid = column_grid(queue, input.c, size, wide(queue, input, partial), 1);
  for (int64_t done = 0; done < parts; done += kMaxParts) {
    PartialStatistics some = partial;
    some.data = static_cast<char*>(partial.data) + (first + done) * part_bytes;
    some.parts = std::min(parts - done, kMaxParts);
    grid.grid.y = static_cast<unsigned>(some.parts);
    FeatureMap<const void> rows = input;
    rows.data = static_cast<const char*>(input.data) + done * size * input.pixel_stride * element_bytes(queue.element);
    rows.n = 1, rows.h = some.parts, rows.w = size;
    write_parts(queue, rows, grid, some);
  }
}

void channel_statistics(const Queue& queue, const ChannelStatistics<void>& args) {
  const int64_t channels = args.input.c, pixels = args.input.pixels();
  // No map is large enough for a block to get 2^31 pixels.
  const ColumnGrid grid = column_grid(queue, channels, pixels, wide(queue, args.input), kMaxReductionParts);
  PartialStatistics partial =
      allocate_partial_statistics(queue, grid.parts(), channels, pixels, grid.columns.pixels_per_block);
  if (pixels > 0) partial.centre = args.input.data;
  write_parts(queue, args.input, grid, partial);
  finish_statistics(queue, partial, args.mean, args.variance);
}

}  // namespace ladderseg::cuda
