// The operators as functions of one instruction set: each is defined and instantiated in the file of its name.
#pragma once

#include "ladderseg/kernels.h"

namespace ladderseg {
namespace LADDERSEG_ISA {

template <class T>
void channel_statistics(const ChannelStatistics<T>&, int threads);
template <class T>
void affine_correction(const AffineCorrection<T>&, int threads);
template <class T>
void batch_norm_forward(const BatchNormForward<T>&, int threads);
template <class T>
void batch_norm_backward(const BatchNormBackward<T>&, int threads);
template <class T>
void bn_relu_forward(const BnReluForward<T>&, int threads);
template <class T>
void bn_relu_backward(const BnReluBackward<T>&, int threads);
template <class T>
void bn_relu_conv1x1_forward(const BnReluConv1x1Forward<T>&, int threads);
template <class T>
void bn_relu_conv1x1_backward(const BnReluConv1x1Backward<T>&, int threads);
template <class T>
void bn_relu_conv3x3_forward(const BnReluConv3x3Forward<T>&, int threads);
template <class T>
void bn_relu_conv3x3_backward(const BnReluConv3x3Backward<T>&, int threads);
template <class T>
void bn_relu_avgpool2_forward(const BnReluAvgpool2Forward<T>&, int threads);
template <class T>
void bn_relu_avgpool2_backward(const BnReluAvgpool2Backward<T>&, int threads);
template <class T>
void bn_relu_maxpool_forward(const BnReluMaxpoolForward<T>&, int threads);
template <class T>
void bn_relu_maxpool_backward(const BnReluMaxpoolBackward<T>&, int threads);
template <class T>
void stem_forward(const StemForward<T>&, int threads);
template <class T>
void stem_backward_sums(const StemBackwardSums<T>&, int threads);
template <class T>
void stem_backward_weight(const StemBackwardWeight<T>&, int threads);
template <class T>
void upsample_forward(const UpsampleForward<T>&, int threads);
template <class T>
void upsample_backward(const UpsampleBackward<T>&, int threads);
template <class T>
void upsample_project_concat_forward(const UpsampleProjectConcatForward<T>&, int threads);
template <class T>
void upsample_cross_entropy(const UpsampleCrossEntropy<T>&, int threads);
template <class T>
void upsample_argmax(const UpsampleArgmax<T>&, int threads);
template <class T>
void product_rate(const ProductRate<T>&, int threads);

}  // namespace LADDERSEG_ISA
}  // namespace ladderseg

// One line at the end of an operator's file.
#define LADDERSEG_INSTANTIATE(function, Arguments)                     \
  template void function<float>(const Arguments<float>&, int threads); \
  template void function<double>(const Arguments<double>&, int threads);
