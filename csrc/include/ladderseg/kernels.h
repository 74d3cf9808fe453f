// The operators of the core, behind one table per element type and instruction set.
#pragma once

#include "affine_correction.h"
#include "batch_norm.h"
#include "bn_relu.h"
#include "bn_relu_avgpool2.h"
#include "bn_relu_conv1x1.h"
#include "bn_relu_conv3x3.h"
#include "bn_relu_maxpool.h"
#include "channel_statistics.h"
#include "product_rate.h"
#include "stem.h"
#include "upsample.h"
#include "upsample_argmax.h"
#include "upsample_cross_entropy.h"
#include "upsample_project_concat.h"

namespace ladderseg {

// `threads` is the size of the team. The same inputs and team size give the same bits.
template <class Arguments>
using Kernel = void (*)(const Arguments&, int threads);

template <class T>
struct Kernels {
  Kernel<ChannelStatistics<T>> channel_statistics;
  Kernel<AffineCorrection<T>> affine_correction;
  Kernel<BatchNormForward<T>> batch_norm_forward;
  Kernel<BatchNormBackward<T>> batch_norm_backward;
  Kernel<BnReluForward<T>> bn_relu_forward;
  Kernel<BnReluBackward<T>> bn_relu_backward;
  Kernel<BnReluConv1x1Forward<T>> bn_relu_conv1x1_forward;
  Kernel<BnReluConv1x1Backward<T>> bn_relu_conv1x1_backward;
  Kernel<BnReluConv3x3Forward<T>> bn_relu_conv3x3_forward;
  Kernel<BnReluConv3x3Backward<T>> bn_relu_conv3x3_backward;
  Kernel<BnReluAvgpool2Forward<T>> bn_relu_avgpool2_forward;
  Kernel<BnReluAvgpool2Backward<T>> bn_relu_avgpool2_backward;
  Kernel<BnReluMaxpoolForward<T>> bn_relu_maxpool_forward;
  Kernel<BnReluMaxpoolBackward<T>> bn_relu_maxpool_backward;
  Kernel<StemForward<T>> stem_forward;
  Kernel<StemBackwardSums<T>> stem_backward_sums;
  Kernel<StemBackwardWeight<T>> stem_backward_weight;
  Kernel<UpsampleForward<T>> upsample_forward;
  Kernel<UpsampleBackward<T>> upsample_backward;
  Kernel<UpsampleProjectConcatForward<T>> upsample_project_concat_forward;
  Kernel<UpsampleCrossEntropy<T>> upsample_cross_entropy;
  Kernel<UpsampleArgmax<T>> upsample_argmax;
  Kernel<ProductRate<T>> product_rate;
};

// One way of compiling the kernels, and whether this processor can run it.
struct InstructionSet {
  const char* name;
  bool (*supported)();
  const Kernels<float>* float32;
  const Kernels<double>* float64;
};

// Compiled-in instruction sets, from the most general to the fastest.
const InstructionSet* instruction_sets(int* count);

// The one in use: at first the fastest that this processor supports.
const InstructionSet& instruction_set();

// Choose by name; false if it is not compiled in or not supported here.
bool set_instruction_set(const char* name);

}  // namespace ladderseg
