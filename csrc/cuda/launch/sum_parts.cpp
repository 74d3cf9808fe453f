// Adds the parts of a sum that blocks have left, in a fixed order.
#include "sum_parts.h"

#include "../kernels/product.h"
#include "../kernels/sum_parts.h"
#include "columns.h"

namespace ladderseg::cuda {

void* allocate_parts(const Queue& queue, int64_t parts, int64_t count, void* result) {
  return parts == 1 ? result : queue.allocate(parts * count * real_bytes(queue.element));
}

void finish_parts(const Queue& queue, const void* partial, int64_t parts, int64_t count, void* result) {
  if (parts == 1) return;
  const SumPartsArguments<void> arguments{partial, parts, count, result};
  launch(queue,
         {"sum_parts",
          "sum_parts",
          {static_cast<unsigned>(ceil_divide(count, kProductThreads))},
          {kProductThreads},
          {vector_buffer(queue, partial, parts * count, "parts"),
           vector_buffer(queue, result, count, "result", Access::write)},
          1.0 * parts * count},
         &arguments);
}

void finish_weight_parts(const Queue& queue, const void* partial, int64_t parts, const WeightSize& size, void* result) {
  const int64_t count = size.taps * size.rows * size.outputs;
  const SumWeightPartsArguments<void> arguments{partial,
                                                parts,
                                                static_cast<int>(size.outputs),
                                                static_cast<int>(size.channels),
                                                static_cast<int>(size.taps),
                                                static_cast<int>(size.rows),
                                                result};
  launch(queue,
         {"sum_parts",
          "sum_weight_parts",
          {static_cast<unsigned>(ceil_divide(count, kProductThreads))},
          {kProductThreads},
          {vector_buffer(queue, partial, parts * count, "parts"),
           vector_buffer(queue, result, size.outputs * size.channels * size.taps, "result", Access::write)},
          1.0 * parts * count},
         &arguments);
}

}  // namespace ladderseg::cuda
