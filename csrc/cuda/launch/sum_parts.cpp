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

}  // namespace ladderseg::cuda
