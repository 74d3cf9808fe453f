// Launches that prepare norms: see ladderseg/prepare_norms.h.
#include "../kernels/prepare_norms.h"

#include <algorithm>

#include "columns.h"
#include "operators.h"

namespace ladderseg::cuda {
namespace {

void add_buffers(const Queue& queue, const UnpreparedNorm<void>& norm, std::vector<Buffer>& buffers) {
  const auto add = [&](const void* data, int64_t count, Access access, const char* name) {
    if (data) buffers.push_back(vector_buffer(queue, data, count, name, access));
  };
  add(norm.running_mean, norm.channels, Access::read, "running_mean");
  add(norm.running_variance, norm.channels, Access::read, "running_variance");
  add(norm.gamma, norm.channels, Access::read, "gamma");
  add(norm.beta, norm.channels, Access::read, "beta");
  add(norm.norm, 3 * norm.channels, Access::write, "norm");
  buffers.push_back(buffer(norm.invstd, norm.channels * static_cast<int64_t>(sizeof(double)), Access::write, "invstd"));
}

}  // namespace

void prepare_norms(const Queue& queue, const PrepareNorms<void>& args) {
  const std::vector<UnpreparedNorm<void>>& norms = args.norms;
  for (size_t begin = 0; begin < norms.size(); begin += kPreparedNorms) {
    PrepareNormsArguments<void> arguments{};
    Launch call{"prepare_norms", "prepare_norms", {}, {kPrepareNormThreads}};
    int64_t blocks = 0;
    const size_t end = std::min(norms.size(), begin + kPreparedNorms);
    for (size_t i = begin; i < end; ++i) {
      const UnpreparedNorm<void>& norm = norms[i];
      const_cast<PreparedNorm<void>&>(arguments[arguments.count++]) = {norm.running_mean,
                                                                       norm.running_variance,
                                                                       norm.gamma,
                                                                       norm.beta,
                                                                       norm.norm,
                                                                       norm.invstd,
                                                                       norm.epsilon,
                                                                       static_cast<int>(norm.channels),
                                                                       static_cast<int>(blocks)};
      blocks += ceil_divide(norm.channels, kPrepareNormThreads);
      call.operations += 10.0 * norm.channels;
      add_buffers(queue, norm, call.buffers);
    }
    call.grid.x = static_cast<unsigned>(blocks);
    launch(queue, call, &arguments);
  }
}

}  // namespace ladderseg::cuda
