// Norms from running statistics: see ladderseg/prepare_norms.h.
#include "element.cuh"
#include "prepare_norms.h"

namespace ladderseg::cuda {

extern "C" __global__ void __launch_bounds__(kPrepareNormThreads)
    LADDERSEG_KERNEL(prepare_norms)(const PrepareNormsArguments<Real> args) {
  const int block = static_cast<int>(blockIdx.x);
  int number = 0;  // the last norm whose blocks begin here or before
#pragma unroll 1
  for (int step = 32; step > 0; step /= 2)
    if (number + step < args.count && args[number + step].first_block <= block) number += step;
  const PreparedNorm<Real>& norm = args[number];
  const int channels = norm.channels;
  const int c = (block - norm.first_block) * kPrepareNormThreads + static_cast<int>(threadIdx.x);
  if (c >= channels) return;
  const double variance = norm.running_variance[c];
  const double invstd = 1.0 / sqrt(variance + norm.epsilon);
  norm.invstd[c] = invstd;
  norm.norm[c] = norm.running_mean[c];
  norm.norm[channels + c] = static_cast<Real>(norm.gamma ? invstd * norm.gamma[c] : invstd);
  norm.norm[2 * channels + c] = norm.beta ? norm.beta[c] : Real(0);
}

static_assert(kPreparedNorms <= 64, "the search above takes steps from 32 on");

}  // namespace ladderseg::cuda
