// Finishes channel statistics from the partial statistics of blocks.
#include "statistics.h"

#include "../kernels/statistics.h"
#include "columns.h"

namespace ladderseg::cuda {
namespace {

Buffer counts_buffer(const PartialStatistics& partial, Access access) {
  return buffer(partial.counts, partial.parts * static_cast<int64_t>(sizeof(int)), access, "positions of the parts");
}

}  // namespace

PartialStatistics allocate_partial_statistics(const Queue& queue, int64_t parts, int64_t channels, int64_t positions,
                                              int64_t positions_per_part) {
  return {queue.allocate(parts * 2 * channels * real_bytes(queue.element)), parts, channels, positions,
          positions_per_part};
}

PartialStatistics allocate_partial_statistics(const Queue& queue, int64_t parts, int64_t channels, int64_t positions) {
  const int64_t bytes = parts * 2 * channels * real_bytes(queue.element);
  void* const data = queue.allocate(bytes + parts * static_cast<int64_t>(sizeof(int)));
  return {data, parts, channels, positions, 0, nullptr, reinterpret_cast<int*>(static_cast<char*>(data) + bytes)};
}

void add_statistics(const Queue& queue, const PartialStatistics& partial, std::vector<Buffer>& buffers) {
  buffers.push_back(buffer(queue, partial));
  if (partial.counts) buffers.push_back(counts_buffer(partial, Access::write));
}

Buffer buffer(const Queue& queue, const PartialStatistics& partial, Access access) {
  return vector_buffer(queue, partial.data, partial.parts * 2 * partial.channels, "partial statistics", access);
}

void finish_statistics(const Queue& queue, const PartialStatistics& partial, double* mean, double* variance) {
  constexpr unsigned kChannels = 8, kParts = 32;  // of a block, as in kernels/statistics.cu
  const int64_t channels = partial.channels, bytes = channels * static_cast<int64_t>(sizeof(double));
  const MergeStatisticsArguments<void, void> arguments{partial.data,
                                                       partial.centre,
                                                       partial.parts,
                                                       channels,
                                                       partial.positions,
                                                       partial.counts,
                                                       partial.positions_per_part,
                                                       mean,
                                                       variance};
  Launch call{
      "statistics", "merge_statistics", {static_cast<unsigned>(ceil_divide(channels, kChannels))}, {kChannels, kParts}};
  call.buffers = {buffer(queue, partial, Access::read), buffer(mean, bytes, Access::write, "mean"),
                  buffer(variance, bytes, Access::write, "variance")};
  if (partial.counts) call.buffers.push_back(counts_buffer(partial, Access::read));
  if (partial.centre)
    call.buffers.push_back(
        buffer(partial.centre, channels * element_bytes(queue.element), Access::read, "centre of the statistics"));
  call.operations = 5.0 * partial.parts * channels;
  launch(queue, call, &arguments);
}

}  // namespace ladderseg::cuda
