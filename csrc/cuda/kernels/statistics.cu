// Mean and biased variance of every channel from the statistics of parts of the positions: in double, in a fixed order.
//
// With all parts at hand, of n_i positions each, Chan's formula needs no division per part:
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

// The number of positions of a part; none or fewer for a part that is empty, whose statistics are not read.
LADDERSEG_DEVICE int64 part_size(const MergeStatisticsArguments<Element, Real>& args, int64 part) {
  if (args.counts) return args.counts[part];
  return smaller(args.positions_per_part, args.positions - part * args.positions_per_part);
}

extern "C" __global__ void __launch_bounds__(kMergeChannels* kMergeParts)
    LADDERSEG_KERNEL(merge_statistics)(const MergeStatisticsArguments<Element, Real> args) {
  __shared__ double shared[kMergeParts][kMergeChannels];
  const int64 c = static_cast<int64>(blockIdx.x) * kMergeChannels + threadIdx.x, channels = args.channels;
  const double positions = static_cast<double>(args.positions);
  const Real* const from = args.partial_statistics + c;
  const bool active = c < channels;

  double sum = 0.0;
  if (active) {
#pragma unroll 4
    for (int64 part = threadIdx.y; part < args.parts; part += kMergeParts) {
      const int64 count = part_size(args, part);
      if (count > 0) sum += static_cast<double>(count) * from[2 * part * channels];
    }
  }
  const double mean = sum_over_parts(sum, shared) / positions;

  double deviation = 0.0;
  if (active) {
#pragma unroll 4
    for (int64 part = threadIdx.y; part < args.parts; part += kMergeParts) {
      const int64 count = part_size(args, part);
      if (count <= 0) continue;
      const Real* const statistics = from + 2 * part * channels;
      const double d = statistics[0] - mean;
      deviation += statistics[channels] + static_cast<double>(count) * d * d;
    }
  }
  const double variance = sum_over_parts(deviation, shared) / positions;
  if (threadIdx.y != 0 || !active) return;
  args.mean[c] = mean + (args.centre ? static_cast<double>(centre(to_real(args.centre[c]))) : 0.0);
  args.variance[c] = variance;
}

}  // namespace ladderseg::cuda
