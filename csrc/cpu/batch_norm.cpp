// The arithmetic of a batch norm on vectors of one number per channel: see ladderseg/batch_norm.h.
#include "ladderseg/batch_norm.h"

#include <cmath>

#include "operators.h"

namespace ladderseg {
namespace LADDERSEG_ISA {

template <class T>
void batch_norm_forward(const BatchNormForward<T>& args, int) {
  const bool of_batch = args.mean != nullptr;
  for (int64_t c = 0; c < args.channels; ++c) {
    const double mean = of_batch ? args.mean[c] : args.running_mean[c];
    const double variance = of_batch ? args.variance[c] : args.running_variance[c];
    const double invstd = 1.0 / std::sqrt(variance + args.epsilon);
    args.invstd[c] = invstd;
    args.norm_mean[c] = static_cast<RealOf<T>>(mean);
    args.norm_scale[c] = static_cast<RealOf<T>>(args.gamma ? invstd * args.gamma[c] : invstd);
    args.norm_shift[c] = args.beta ? args.beta[c] : RealOf<T>(0);
  }
  if (of_batch && args.running_mean) {
    const double kept = 1.0 - args.momentum, taken = args.momentum;
    for (int64_t c = 0; c < args.channels; ++c) {
      args.running_mean[c] = static_cast<RealOf<T>>(kept * args.running_mean[c] + taken * args.mean[c]);
      args.running_variance[c] =
          static_cast<RealOf<T>>(kept * args.running_variance[c] + taken * (args.unbiased * args.variance[c]));
    }
  }
  if (args.batches) ++*args.batches;
}

template <class T>
void batch_norm_backward(const BatchNormBackward<T>& args, int) {
  const double positions = static_cast<double>(args.positions);
  for (int64_t c = 0; c < args.channels; ++c) {
    const double masked = args.sums.masked[c], centred = args.sums.centred[c], invstd = args.invstd[c];
    args.grad_gamma[c] = static_cast<RealOf<T>>(invstd * centred);
    args.grad_beta[c] = static_cast<RealOf<T>>(masked);
  }
  if (!args.constant) return;
  for (int64_t c = 0; c < args.channels; ++c) {
    const double scale = args.norm.scale[c], invstd = args.invstd[c];
    const double constant = scale * args.sums.masked[c] / positions;
    const double slope = scale * args.sums.centred[c] * (invstd * invstd) / positions;
    args.mean[c] = args.norm.mean[c];
    args.constant[c] = static_cast<RealOf<T>>(args.accumulate ? args.constant[c] + constant : constant);
    args.slope[c] = static_cast<RealOf<T>>(args.accumulate ? args.slope[c] + slope : slope);
  }
}

LADDERSEG_INSTANTIATE(batch_norm_forward)
LADDERSEG_INSTANTIATE(batch_norm_backward)

}  // namespace LADDERSEG_ISA
}  // namespace ladderseg
