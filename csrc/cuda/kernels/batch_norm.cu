// Batch norm's arithmetic on vectors: see ladderseg/batch_norm.h.
#include "batch_norm.h"
#include "element.cuh"

namespace ladderseg::cuda {

extern "C" __global__ void __launch_bounds__(kBatchNormThreads)
    LADDERSEG_KERNEL(batch_norm_forward)(const BatchNormForwardArguments<Real> args) {
  const int64 c = static_cast<int64>(blockIdx.x) * kBatchNormThreads + threadIdx.x;
  if (c == 0 && args.batches) ++*args.batches;
  if (c >= args.channels) return;
  const bool of_batch = args.mean != nullptr;
  const double mean = of_batch ? args.mean[c] : args.running_mean[c];
  const double variance = of_batch ? args.variance[c] : args.running_variance[c];
  const double invstd = 1.0 / sqrt(variance + args.epsilon);
  args.invstd[c] = invstd;
  args.norm_mean[c] = static_cast<Real>(mean);
  args.norm_scale[c] = static_cast<Real>(args.gamma ? invstd * args.gamma[c] : invstd);
  args.norm_shift[c] = args.beta ? args.beta[c] : Real(0);
  if (!of_batch || !args.running_mean) return;
  const double kept = 1.0 - args.momentum, taken = args.momentum;
  args.running_mean[c] = static_cast<Real>(kept * args.running_mean[c] + taken * mean);
  args.running_variance[c] = static_cast<Real>(kept * args.running_variance[c] + taken * (args.unbiased * variance));
}

extern "C" __global__ void __launch_bounds__(kBatchNormThreads)
    LADDERSEG_KERNEL(batch_norm_backward)(const BatchNormBackwardArguments<Real> args) {
  const int64 c = static_cast<int64>(blockIdx.x) * kBatchNormThreads + threadIdx.x;
  if (c >= args.channels) return;
  const double masked = args.masked[c], centred = args.centred[c], invstd = args.invstd[c];
  args.grad_gamma[c] = static_cast<Real>(invstd * centred);
  args.grad_beta[c] = static_cast<Real>(masked);
  if (!args.constant) return;
  const double scale = args.norm_scale[c], positions = static_cast<double>(args.positions);
  const double constant = scale * masked / positions;
  const double slope = scale * centred * (invstd * invstd) / positions;
  args.mean[c] = args.norm_mean[c];
  args.constant[c] = static_cast<Real>(args.accumulate ? args.constant[c] + constant : constant);
  args.slope[c] = static_cast<Real>(args.accumulate ? args.slope[c] + slope : slope);
}

}  // namespace ladderseg::cuda
