// What all losses of upsampled logits read: see ladderseg/upsample_cross_entropy.h.
#pragma once

#include <algorithm>

#include "../kernels/upsample_cross_entropy.h"
#include "ladderseg/upsample_cross_entropy.h"
#include "maps.h"

namespace ladderseg::cuda {

inline int64_t pixels(const LabelledScores<void>& scores) { return scores.logits.n * scores.height * scores.width; }

inline Labels<void> labels(const LabelledScores<void>& scores) {
  const int type = scores.label_type == LabelType::uint8 ? 0 : scores.label_type == LabelType::int32 ? 1 : 2;
  return {scores.labels, type, pixels(scores), scores.logits.c, scores.ignore_index, scores.class_weights};
}

inline std::vector<Buffer> label_buffers(const Queue& queue, const LabelledScores<void>& scores) {
  std::vector<Buffer> buffers = {
      buffer(scores.labels, pixels(scores) * label_bytes(scores.label_type), Access::read, "labels")};
  if (scores.class_weights)
    buffers.push_back(vector_buffer(queue, scores.class_weights, scores.logits.c, "class_weights"));
  return buffers;
}

inline std::vector<Buffer> score_buffers(const Queue& queue, const LabelledScores<void>& scores) {
  std::vector<Buffer> buffers = label_buffers(queue, scores);
  buffers.push_back(buffer(queue, scores.logits, Access::read, "logits"));
  return buffers;
}

// An array in scratch memory.
template <class T>
struct Scratch {
  T* data;
  int64_t count;
  Scratch(const Queue& queue, int64_t count)
      : data(static_cast<T*>(queue.allocate(std::max<int64_t>(1, count) * sizeof(T)))), count(count) {}
  Buffer buffer(Access access, const char* name) const {
    return cuda::buffer(data, count * static_cast<int64_t>(sizeof(T)), access, name);
  }
};

// The operators, for what upsample_cross_entropy.cu has no kernels for.
void weighted_cross_entropy(const Queue& queue, const UpsampleCrossEntropy<void>& args);

}  // namespace ladderseg::cuda
