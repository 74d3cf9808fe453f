// Adds the parts of a sum that different blocks have computed, in a fixed order.
#include "element.cuh"
#include "product.h"
#include "sum_parts.h"

namespace ladderseg::cuda {

LADDERSEG_DEVICE Real sum_of_parts(const Real* first, int64 parts, int64 count) {
  Real sum = Real(0);
#pragma unroll 8
  for (int64 part = 0; part < parts; ++part) sum += first[part * count];
  return sum;
}

extern "C" __global__ void __launch_bounds__(kProductThreads)
    LADDERSEG_KERNEL(sum_parts)(const SumPartsArguments<Real> args) {
  const int64 i = static_cast<int64>(blockIdx.x) * kProductThreads + threadIdx.x;
  if (i < args.count) args.result[i] = sum_of_parts(args.partial + i, args.parts, args.count);
}

extern "C" __global__ void __launch_bounds__(kProductThreads)
    LADDERSEG_KERNEL(sum_weight_parts)(const SumWeightPartsArguments<Real> args) {
  const int64 i = static_cast<int64>(blockIdx.x) * kProductThreads + threadIdx.x;
  const int64 tap_size = static_cast<int64>(args.rows) * args.outputs, count = args.taps * tap_size;
  const int tap = static_cast<int>(i / tap_size), rest = static_cast<int>(i - tap * tap_size);
  const int channel = rest / args.outputs, output = rest % args.outputs;
  if (tap >= args.taps || channel >= args.channels) return;
  args.result[(static_cast<int64>(output) * args.channels + channel) * args.taps + tap] =
      sum_of_parts(args.partial + i, args.parts, count);
}

}  // namespace ladderseg::cuda
