// The two sums of a batch norm's backward (ladderseg::BnSums) from those of many blocks: in double, in a fixed order.
#include "bn_sums.h"

#include "element.cuh"

namespace ladderseg::cuda {

constexpr int kSumChannels = 32;  // by threadIdx.x: a cache line of each part
constexpr int kSumParts = 8;      // by threadIdx.y: these many parts are read at a time

extern "C" __global__ void __launch_bounds__(kSumChannels* kSumParts)
    LADDERSEG_KERNEL(bn_sums)(const BnSumsArguments<Real> args) {
  __shared__ double shared[kSumParts][2][kSumChannels];
  const int64 c = static_cast<int64>(blockIdx.x) * kSumChannels + threadIdx.x;
  double masked = 0.0, centred = 0.0;
  if (c < args.channels) {
#pragma unroll 4
    for (int64 part = threadIdx.y; part < args.parts; part += kSumParts) {
      const Real* const from = args.partial_sums + 2 * part * args.channels + c;
      masked += from[0];
      centred += from[args.channels];
    }
  }
  shared[threadIdx.y][0][threadIdx.x] = masked;
  shared[threadIdx.y][1][threadIdx.x] = centred;
  __syncthreads();
  if (threadIdx.y != 0 || c >= args.channels) return;
#pragma unroll
  for (int i = 1; i < kSumParts; ++i) {
    masked += shared[i][0][threadIdx.x];
    centred += shared[i][1][threadIdx.x];
  }
  args.masked[c] = masked;
  args.centred[c] = centred;
}

}  // namespace ladderseg::cuda
