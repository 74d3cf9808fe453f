// Mean and biased variance of every channel from the statistics of parts of the positions: in double, in a fixed order.
//
// With all parts at hand, Chan's formula needs no division per part:
//
//   mean = sum_i n_i mean_i / P,   variance = sum_i (deviation_i + n_i (mean_i - mean)^2) / P
//
// Doubles are slow on many devices, so blocks have few channels: the work spreads over the processors.
#include "statistics.cuh"
#include "statistics.h"

namespace ladderseg::cuda {

constexpr int kMergeChannels = 8;  // by threadIdx.x: a sector of memory of each part
constexpr int kMergeParts = 32;    // by threadIdx.y: these many parts are read at a time

// The sum over threadIdx.y in a fixed order, for all threads.
LADDERSEG_DEVICE double sum_over_parts(double value, double (&shared)[kMergeParts][kMergeChannels]) {
  shared[threadIdx.y][threadIdx.x] = value;
  __syncthreads();
#pragma unroll
  for (int half = kMergeParts / 2; half > 0; half /= 2) {
    if (threadIdx.y < half) shared[threadIdx.y][threadIdx.x] += shared[threadIdx.y + half][threadIdx.x];
    __syncthreads();
  }
  const double sum = shared[0][threadIdx.x];
  __syncthreads();
  return sum;
}

extern "C" __global__ void __launch_bounds__(kMergeChannels* kMergeParts)
    LADDERSEG_KERNEL(merge_statistics)(const MergeStatisticsArguments<Element, Real> args) {
  __shared__ double shared[kMergeParts][kMergeChannels];
  const int64 c = static_cast<int64>(blockIdx.x) * kMergeChannels + threadIdx.x, channels = args.channels;
  const int64 full = smaller(args.parts, args.positions / args.positions_per_part);  // parts that are full
  const int64 rest = args.positions - full * args.positions_per_part;                // positions of the one after them
  const double per_part = static_cast<double>(args.positions_per_part);
  const double positions = static_cast<double>(args.positions);
  const Real* const from = args.partial_statistics + c;
  const bool active = c < channels;
  const bool takes_rest = active && rest > 0 && threadIdx.y == full % kMergeParts;

  double sum = 0.0;
  if (active) {
#pragma unroll 4
    for (int64 part = threadIdx.y; part < full; part += kMergeParts) sum += from[2 * part * channels];
    sum *= per_part;
    if (takes_rest) sum += static_cast<double>(rest) * from[2 * full * channels];
  }
  const double mean = sum_over_parts(sum, shared) / positions;

  double deviation = 0.0, square = 0.0;
  if (active) {
#pragma unroll 4
    for (int64 part = threadIdx.y; part < full; part += kMergeParts) {
      const Real* const statistics = from + 2 * part * channels;
      const double d = statistics[0] - mean;
      square += d * d;
      deviation += statistics[channels];
    }
    deviation += per_part * square;
    if (takes_rest) {
      const Real* const statistics = from + 2 * full * channels;
      const double d = statistics[0] - mean;
      deviation += statistics[channels] + static_cast<double>(rest) * d * d;
    }
  }
  const double variance = sum_over_parts(deviation, shared) / positions;
  if (threadIdx.y != 0 || !active) return;
  args.mean[c] = mean + (args.centre ? static_cast<double>(centre(to_real(args.centre[c]))) : 0.0);
  args.variance[c] = variance;
}

}  // namespace ladderseg::cuda
