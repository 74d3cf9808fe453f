// The operators of the core on a CUDA device. Arguments are those of the headers in ladderseg/, with addresses in the
// place of typed pointers: maps and weights of the queue's element type, vectors and weight gradients of its Real
// (float, or double for float64), sums and statistics of double. All enqueue their kernels and return.
//
// Errors: std::runtime_error from the driver, with the kernel's name and sizes.
#pragma once

#include "../runtime/launch.h"
#include "ladderseg/kernels.h"

namespace ladderseg::cuda {

// Whether products of the queue's element type are by tensor cores, where memory is aligned.
bool multiplies_by_tensor_cores(const Queue&);

void channel_statistics(const Queue&, const ChannelStatistics<void>&);
void affine_correction(const Queue&, const AffineCorrection<void>&);
void batch_norm_forward(const Queue&, const BatchNormForward<void>&);
void batch_norm_backward(const Queue&, const BatchNormBackward<void>&);
void bn_relu_forward(const Queue&, const BnReluForward<void>&);
void bn_relu_backward(const Queue&, const BnReluBackward<void>&);
void bn_relu_conv1x1_forward(const Queue&, const BnReluConv1x1Forward<void>&);
void bn_relu_conv1x1_backward(const Queue&, const BnReluConv1x1Backward<void>&);
// Of the 3x3 convolution the weights are in another order here, with channels padded with zeros to C' and K', whole
// chunks of 16 bytes: weight is [K, 3, 3, C'] forward and [3, 3, K', C'] backward, grad_weight is [3, 3, C', K].
void bn_relu_conv3x3_forward(const Queue&, const BnReluConv3x3Forward<void>&);
void bn_relu_conv3x3_backward(const Queue&, const BnReluConv3x3Backward<void>&);
void bn_relu_avgpool2_forward(const Queue&, const BnReluAvgpool2Forward<void>&);
void bn_relu_avgpool2_backward(const Queue&, const BnReluAvgpool2Backward<void>&);
void bn_relu_maxpool_forward(const Queue&, const BnReluMaxpoolForward<void>&);
// With no data in grad_input, the sums alone, for its rows; with a constant and a slope [C], grad_input is corrected as
// that of a CorrectedGradient.
void bn_relu_maxpool_backward(const Queue&, const BnReluMaxpoolBackward<void>&, const void* constant,
                              const void* slope);
void upsample_forward(const Queue&, const UpsampleForward<void>&);
void upsample_backward(const Queue&, const UpsampleBackward<void>&);
void upsample_project_concat_forward(const Queue&, const UpsampleProjectConcatForward<void>&);
void upsample_cross_entropy(const Queue&, const UpsampleCrossEntropy<void>&);
void upsample_argmax(const Queue&, const UpsampleArgmax<void>&);

}  // namespace ladderseg::cuda
