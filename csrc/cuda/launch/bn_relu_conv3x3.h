// What the launches of BN-ReLU-conv3x3 and of its backward share.
#pragma once

#include "../kernels/bn_relu_conv3x3.h"
#include "maps.h"
#include "operators.h"

namespace ladderseg::cuda {

constexpr int64_t kTaps = 9;

// Channels in whole chunks of 16 bytes.
inline int64_t padded(const Queue& queue, int64_t channels) {
  const int64_t chunk = 16 / element_bytes(queue.element);
  return (channels + chunk - 1) / chunk * chunk;
}

inline Buffer weight_buffer(const Queue& queue, const void* weight, int64_t count) {
  return buffer(weight, count * element_bytes(queue.element), Access::read, "weight");
}

// The two halves of the backward: grad_input with the sums, and grad_weight, which is wanted.
void conv3x3_backward_data(const Queue& queue, const BnReluConv3x3Backward<void>& args);
void conv3x3_backward_weight(const Queue& queue, const BnReluConv3x3Backward<void>& args);

}  // namespace ladderseg::cuda
