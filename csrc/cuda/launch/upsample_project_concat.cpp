// Launches of the transition-up's input: see ladderseg/upsample_project_concat.h.
#include "operators.h"

namespace ladderseg::cuda {
namespace {

// Channels [first, first + count) of a map.
FeatureMap<void> channels(const Queue& queue, const FeatureMap<void>& map, int64_t first, int64_t count) {
  FeatureMap<void> part = map;
  part.data = static_cast<char*>(map.data) + first * element_bytes(queue.element);
  part.c = count;
  return part;
}

}  // namespace

// Each half is written in place by the pass that makes it.
void upsample_project_concat_forward(const Queue& queue, const UpsampleProjectConcatForward<void>& args) {
  const int64_t upsampled = args.coarse.c;
  upsample_forward(queue, {args.coarse, channels(queue, args.output, 0, upsampled), 0, args.output.h});
  bn_relu_conv1x1_forward(
      queue, {args.skip, args.norm, args.weight, channels(queue, args.output, upsampled, args.output.c - upsampled),
              nullptr, nullptr});
}

}  // namespace ladderseg::cuda
