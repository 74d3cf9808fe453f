// Fills the tables of one instruction set.

#include "kernel_tables.h"
#include "operators.h"

namespace ladderseg {
namespace LADDERSEG_ISA {
namespace {

template <class T>
constexpr Kernels<T> make_table() {
  return {
      channel_statistics<T>,
      affine_correction<T>,
      batch_norm_forward<T>,
      batch_norm_backward<T>,
      bn_relu_forward<T>,
      bn_relu_backward<T>,
      bn_relu_conv1x1_forward<T>,
      bn_relu_conv1x1_backward<T>,
      bn_relu_conv3x3_forward<T>,
      bn_relu_conv3x3_backward<T>,
      bn_relu_avgpool2_forward<T>,
      bn_relu_avgpool2_backward<T>,
      bn_relu_maxpool_forward<T>,
      bn_relu_maxpool_backward<T>,
      stem_forward<T>,
      stem_backward_sums<T>,
      stem_backward_weight<T>,
      upsample_forward<T>,
      upsample_backward<T>,
      upsample_project_concat_forward<T>,
      upsample_cross_entropy<T>,
      upsample_argmax<T>,
      product_rate<T>,
  };
}

}  // namespace

extern const Kernels<float> kernels_float32 = make_table<float>();
extern const Kernels<double> kernels_float64 = make_table<double>();

}  // namespace LADDERSEG_ISA
}  // namespace ladderseg
