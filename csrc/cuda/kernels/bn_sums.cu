// Adds the blocks' sums of a batch norm's backward (ladderseg::BnSums), in double and in a fixed order.
#include "bn_sums.h"
#include "element.cuh"

namespace ladderseg::cuda {

// A block has few channels, so that the doubles, slow on consumer devices, are spread over many multiprocessors.
constexpr int kSumChannels = 8;  // by threadIdx.x: a sector of each part
constexpr int kSumParts = 32;    // by threadIdx.y: these many parts are read at a time

extern "C" __global__ void __launch_bounds__(kSumChannels* kSumParts)
    LADDERSEG_KERNEL(bn_sums)(const BnSumsArguments<Real> args) {
  __shared__ double masked_sums[kSumParts][kSumChannels], centred_sums[kSumParts][kSumChannels];
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
  for (int half = kSumParts / 2; half > 0; half /= 2) {
    if (threadIdx.y >= half && threadIdx.y < 2 * half) {
      masked_sums[threadIdx.y - half][threadIdx.x] = masked;
      centred_sums[threadIdx.y - half][threadIdx.x] = centred;
    }
    __syncthreads();
    if (threadIdx.y < half) {
      masked += masked_sums[threadIdx.y][threadIdx.x];
      centred += centred_sums[threadIdx.y][threadIdx.x];
    }
    __syncthreads();
  }
  if (threadIdx.y != 0 || c >= args.channels) return;
  args.masked[c] = masked;
  args.centred[c] = centred;
}

}  // namespace ladderseg::cuda
