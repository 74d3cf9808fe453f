// Launches that prepare weights: see ladderseg/prepare_weights.h.
#include "../kernels/prepare_weights.h"

#include <algorithm>

#include "columns.h"
#include "operators.h"

namespace ladderseg::cuda {
namespace {

PreparedWeight<void> described(const Queue& queue, const UnpreparedWeight<void>& weight, int64_t first_block) {
  const int64_t chunk = 16 / element_bytes(queue.element);
  const auto padded = [chunk](int64_t count) { return ceil_divide(count, chunk) * chunk; };
  const int64_t rows = weight.form == WeightForm::backward ? padded(weight.outputs) : weight.outputs;
  const int64_t columns = weight.form == WeightForm::plain ? weight.channels : padded(weight.channels);
  return {weight.source,
          weight.prepared,
          weight.stride,
          static_cast<int>(weight.outputs),
          static_cast<int>(weight.channels),
          static_cast<int>(weight.taps),
          static_cast<int>(rows),
          static_cast<int>(columns),
          weight.form,
          weight.real,
          static_cast<int>(first_block)};
}

void add_buffers(const Queue& queue, const PreparedWeight<void>& weight, std::vector<Buffer>& buffers) {
  const int64_t bytes = weight.real ? real_bytes(queue.element) : element_bytes(queue.element);
  buffers.push_back({weight.source, weight.outputs, int64_t(weight.channels) * weight.taps * bytes,
                     weight.source_stride * bytes, static_cast<int>(Access::read), "weight"});
  buffers.push_back(buffer(weight.prepared,
                           int64_t(weight.rows) * weight.columns * weight.taps * element_bytes(queue.element),
                           Access::write, "prepared weight"));
}

}  // namespace

void prepare_weights(const Queue& queue, const PrepareWeights<void>& args) {
  const std::vector<UnpreparedWeight<void>>& weights = args.weights;
  for (size_t begin = 0; begin < weights.size(); begin += kPreparedWeights) {
    PrepareWeightsArguments<void> arguments{};
    Launch call{"prepare_weights", "prepare_weights", {}, {kPrepareThreads}};
    int64_t blocks = 0;
    const size_t end = std::min(weights.size(), begin + kPreparedWeights);
    for (size_t i = begin; i < end; ++i) {
      const PreparedWeight<void> weight = described(queue, weights[i], blocks);
      const_cast<PreparedWeight<void>&>(arguments[arguments.count++]) = weight;
      blocks += ceil_divide(int64_t(weight.rows) * weight.columns, kPrepareThreads * kPreparePairs);
      add_buffers(queue, weight, call.buffers);
    }
    call.grid.x = static_cast<unsigned>(blocks);
    launch(queue, call, &arguments);
  }
}

}  // namespace ladderseg::cuda
