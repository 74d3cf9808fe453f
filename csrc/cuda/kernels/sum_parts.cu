// Adds the parts of a sum that different blocks have computed, in a fixed order.
#include "element.cuh"
#include "product.h"
#include "sum_parts.h"

namespace ladderseg::cuda {

extern "C" __global__ void __launch_bounds__(kProductThreads)
    LADDERSEG_KERNEL(sum_parts)(const SumPartsArguments<Real> args) {
  const int64 i = static_cast<int64>(blockIdx.x) * kProductThreads + threadIdx.x;
  if (i >= args.count) return;
  Real sum = Real(0);
#pragma unroll 8
  for (int64 part = 0; part < args.parts; ++part) sum += args.partial[part * args.count + i];
  args.result[i] = sum;
}

}  // namespace ladderseg::cuda
