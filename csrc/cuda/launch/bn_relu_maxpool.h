// The forms of BN-ReLU-maxpool that the stem needs besides the operator's.
#pragma once

#include "../runtime/launch.h"
#include "bn_sums.h"
#include "ladderseg/bn_relu_maxpool.h"

namespace ladderseg::cuda {

// Without a mean and a shift, the output is each window's largest x if scale > 0 and its smallest if scale < 0.
void bn_relu_maxpool_forward(const Queue& queue, const BnReluMaxpoolForward<void>& args);

// Corrects grad_input like a Gradient: grad_input = scale * m - constant - slope * (x - mean).
struct MaxpoolCorrection {
  const void* constant = nullptr;  // [C]; nullptr: no correction
  const void* slope = nullptr;     // [C]
};

// Leaves the sums in parts at `partial_sums`, with room for kMaxReductionParts of them, and returns their number.
// Without data in grad_input, only the sums are computed.
int64_t bn_relu_maxpool_backward_in_parts(const Queue& queue, const BnReluMaxpoolBackward<void>& args,
                                          const MaxpoolCorrection& correction, void* partial_sums);

}  // namespace ladderseg::cuda
