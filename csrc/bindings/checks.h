// What is checked before a kernel runs: each argument has memory, of the extent and element size that the kernel will
// read or write there, and all are on one device. A kernel itself checks nothing.
//
// All throw std::invalid_argument, in Python a ValueError, with the kernel's name, the argument's, and what was
// expected.
#pragma once

#include "arguments.h"

namespace ladderseg {

// What the memory of a call consists of.
struct Elements {
  int64_t map;         // bytes of an element of maps and weights
  int64_t real;        // bytes of an element of vectors and weight gradients
  int64_t chunk;       // weights of 3x3 convolutions have their channels padded to multiples of this
  bool partial_norms;  // max pooling takes norms of a scale alone, and no grad_input
};

namespace check {

void channel_statistics(const Elements&, const Map& input, const Memory& mean, const Memory& variance);
void affine_correction(const Elements&, const Gradient& gradient, const Map& output);
void batch_norm_forward(const Elements&, int64_t channels, const Memory& mean, const Memory& variance,
                        const Memory& running_mean, const Memory& running_variance, const Memory& batches,
                        const Memory& gamma, const Memory& beta, const Norm& norm, const Memory& invstd);
void batch_norm_backward(const Elements&, int64_t channels, const Sums& sums, const Memory& invstd, const Norm& norm,
                         const Memory& grad_gamma, const Memory& grad_beta, const Memory& mean, const Memory& constant,
                         const Memory& slope);
void bn_relu_forward(const Elements&, const Map& input, const Norm& norm, const Map& output);
void bn_relu_backward(const Elements&, const Map& grad_output, const Map& input, const Norm& norm,
                      const Map& grad_input, const Sums& sums);
void bn_relu_conv1x1_forward(const Elements&, const Map& input, const Norm& norm, const Memory& weight,
                             const Map& output, const Memory& output_mean, const Memory& output_variance);
void bn_relu_conv1x1_backward(const Elements&, const Gradient& grad_output, const Map& input, const Norm& norm,
                              const Memory& weight, const Map& grad_input, const Memory& grad_weight, const Sums& sums);
void bn_relu_conv3x3_forward(const Elements&, const Map& input, int64_t input_first_row, const Norm& norm,
                             const Memory& weight, int64_t dilation, const Map& output, const Memory& output_mean,
                             const Memory& output_variance);
void bn_relu_conv3x3_backward(const Elements&, const Gradient& grad_output, int64_t grad_first_row, const Map& input,
                              int64_t input_first_row, const Norm& norm, const Memory& weight, int64_t dilation,
                              const Map& grad_input, const Memory& grad_weight, const Sums& sums);
void bn_relu_avgpool2_forward(const Elements&, const Map& input, const Norm& norm, const Map& output);
void bn_relu_avgpool2_backward(const Elements&, const Map& grad_output, const Map& input, const Norm& norm,
                               const Map& grad_input, const Sums& sums);
void bn_relu_maxpool_forward(const Elements&, const Map& input, const Norm& norm, const Map& output, int64_t first_row);
void bn_relu_maxpool_backward(const Elements&, const Map& grad_output, const Map& input, const Norm& norm,
                              const Map& grad_input, int64_t first_row, int64_t first_grad_row, const Sums& sums,
                              const Memory& constant, const Memory& slope);
void stem_forward(const Elements&, const ImageBatch& images, const Memory& weight, const Norm& norm, const Map& output,
                  const Memory& mean, const Memory& variance);
void stem_backward_sums(const Elements&, const Gradient& grad_output, const ImageBatch& images, const Memory& weight,
                        const Norm& norm, const Sums& sums);
void stem_backward_weight(const Elements&, const Gradient& grad_output, const ImageBatch& images, const Memory& weight,
                          const Norm& norm, const Memory& constant, const Memory& slope, const Memory& grad_weight);
void upsample_forward(const Elements&, const Map& coarse, const Map& output, int64_t first_row, int64_t height);
void upsample_backward(const Elements&, const Map& grad_output, const Map& grad_coarse);
void upsample_project_concat_forward(const Elements&, const Map& coarse, const Map& skip, const Norm& norm,
                                     const Memory& weight, const Map& output);
void upsample_cross_entropy(const Elements&, const Map& logits, const Memory& labels, LabelType label_type,
                            int64_t height, int64_t width, const Memory& class_weights, const Memory& loss,
                            const Map& grad_logits, const Memory& invalid_pixel);
void upsample_argmax(const Elements&, const Map& scores, const Memory& labels, int64_t height, int64_t width);

}  // namespace check
}  // namespace ladderseg
