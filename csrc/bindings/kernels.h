// The kernels as Python calls them: each function here checks one kernel's arguments and makes the core's struct from
// them, for elements of type T on the CPU, and for T = void, meaning addresses, on CUDA devices. `_core.<kernel>` takes
// the same parameters after a first one that tells where the kernel runs; bind_kernels.cpp makes it from the function.
#pragma once

#include <algorithm>

#include "checks.h"

namespace ladderseg::bindings::arguments_of {

template <class T>
ChannelStatistics<T> channel_statistics(const Checks& checks, const Map& input, const Memory& mean,
                                        const Memory& variance) {
  checks.map("input", input);
  checks.memory("mean", mean, input.c, Checks::kDouble);
  checks.memory("variance", variance, input.c, Checks::kDouble);
  return {input, mean, variance};
}

template <class T>
AffineCorrection<T> affine_correction(const Checks& checks, const Gradient& gradient, const Map& output) {
  checks.gradient(gradient);
  checks.map_like("output", output, gradient.grad);
  checks.expect(!gradient.correction.input.absent(), "the gradient has no input");
  return {gradient, output};
}

template <class T>
BatchNormForward<T> batch_norm_forward(const Checks& checks, int64_t channels, const Memory& mean,
                                       const Memory& variance, const Memory& running_mean,
                                       const Memory& running_variance, const Memory& batches, const Memory& gamma,
                                       const Memory& beta, double epsilon, double momentum, double unbiased,
                                       const Memory& norm_mean, const Memory& norm_scale, const Memory& norm_shift,
                                       const Memory& invstd) {
  checks.expect(channels > 0, "there must be channels");
  checks.statistics(mean, variance, channels);
  checks.expect(running_mean.given == running_variance.given, "the running statistics are given together");
  checks.expect(mean.given || running_mean.given, "statistics are missing");
  checks.optional_vector("running_mean", running_mean, channels);
  checks.optional_vector("running_variance", running_variance, channels);
  checks.optional_memory("batches", batches, 1, sizeof(int64_t));
  checks.optional_vector("gamma", gamma, channels);
  checks.optional_vector("beta", beta, channels);
  checks.norm({norm_mean, norm_scale, norm_shift}, channels);
  checks.memory("invstd", invstd, channels, Checks::kDouble);
  return {channels, mean,     variance, running_mean, running_variance, batches,    gamma, beta,
          epsilon,  momentum, unbiased, norm_mean,    norm_scale,       norm_shift, invstd};
}

template <class T>
BatchNormBackward<T> batch_norm_backward(const Checks& checks, int64_t channels, int64_t positions, const Sums& sums,
                                         const Memory& invstd, const Norm& norm, const Memory& grad_gamma,
                                         const Memory& grad_beta, const Memory& mean, const Memory& constant,
                                         const Memory& slope, bool accumulate) {
  checks.expect(channels > 0, "there must be channels");
  checks.sums(sums, channels);
  checks.memory("invstd", invstd, channels, Checks::kDouble);
  checks.norm(norm, channels);
  checks.vector("grad_gamma", grad_gamma, channels);
  checks.vector("grad_beta", grad_beta, channels);
  checks.expect(mean.given == constant.given && mean.given == slope.given, "the correction is not complete");
  checks.optional_vector("the correction's mean", mean, channels);
  checks.optional_vector("the correction's constant", constant, channels);
  checks.optional_vector("the correction's slope", slope, channels);
  return {channels, positions, sums, invstd, norm, grad_gamma, grad_beta, mean, constant, slope, accumulate};
}

template <class T>
BnAddReluForward<T> bn_add_relu_forward(const Checks& checks, const Map& input, const Norm& norm, const Map& shortcut,
                                        const Norm& shortcut_norm, const Map& output) {
  checks.map("input", input);
  checks.norm(norm, input.c);
  checks.map_like("shortcut", shortcut, input);
  checks.optional_norm("the shortcut's norm", shortcut_norm, input.c);
  checks.map_like("output", output, input);
  return {input, norm, shortcut, shortcut_norm, output};
}

template <class T>
BnAddReluBackward<T> bn_add_relu_backward(const Checks& checks, const Gradient& grad_output, const Map& output,
                                          const Map& input, const Norm& norm, const Map& shortcut,
                                          const Norm& shortcut_norm, const Map& grad_input, const Map& grad_shortcut,
                                          bool accumulate, const Sums& sums, const Sums& shortcut_sums) {
  const bool has_norm = shortcut_norm.mean.given;
  checks.gradient(grad_output);
  checks.map_like("output", output, grad_output.grad);
  checks.map_like("input", input, grad_output.grad);
  checks.norm(norm, input.c);
  checks.expect(has_norm != shortcut.absent(), "shortcut and its norm are given together");
  checks.optional_map("shortcut", shortcut, input);
  checks.optional_norm("the shortcut's norm", shortcut_norm, input.c);
  checks.optional_map("grad_input", grad_input, input);
  checks.optional_map("grad_shortcut", grad_shortcut, input);
  checks.sums(sums, input.c);
  checks.expect(has_norm == shortcut_sums.masked.given, "the shortcut has a norm or no sums");
  if (has_norm) checks.sums(shortcut_sums, input.c);
  return {grad_output, output,        input,      norm, shortcut,     shortcut_norm,
          grad_input,  grad_shortcut, accumulate, sums, shortcut_sums};
}

template <class T>
BnReluForward<T> bn_relu_forward(const Checks& checks, const Map& input, const Norm& norm, const Map& output) {
  checks.map("input", input);
  checks.norm(norm, input.c);
  checks.map_like("output", output, input);
  return {input, norm, output};
}

template <class T>
BnReluBackward<T> bn_relu_backward(const Checks& checks, const Map& grad_output, const Map& input, const Norm& norm,
                                   const Map& grad_input, bool accumulate, const Sums& sums) {
  checks.map("input", input);
  checks.norm(norm, input.c);
  checks.map_like("grad_output", grad_output, input);
  checks.map_like("grad_input", grad_input, input);
  checks.sums(sums, input.c);
  return {grad_output, input, norm, grad_input, accumulate, sums};
}

template <class T>
BnReluConv1x1Forward<T> bn_relu_conv1x1_forward(const Checks& checks, const Map& input, const Norm& norm,
                                                const Memory& weight, const Map& output, const Memory& output_mean,
                                                const Memory& output_variance) {
  checks.map("input", input);
  checks.norm(norm, input.c);
  checks.map("output", output, input.n, input.h, input.w, output.c);
  checks.weight(weight, output.c * input.c);
  checks.statistics(output_mean, output_variance, output.c);
  return {input, norm, weight, output, output_mean, output_variance};
}

template <class T>
BnReluConv1x1Backward<T> bn_relu_conv1x1_backward(const Checks& checks, const Gradient& grad_output, const Map& input,
                                                  const Norm& norm, const Memory& weight, const Map& grad_input,
                                                  bool accumulate, const Memory& grad_weight, const Sums& sums) {
  const Map& grad = grad_output.grad;
  checks.gradient(grad_output);
  checks.map("input", input, grad.n, grad.h, grad.w, input.c);
  checks.norm(norm, input.c);
  checks.weight(weight, grad.c * input.c);
  checks.optional_map("grad_input", grad_input, input);
  checks.grad_weight(grad_weight, grad.c * input.c);
  checks.sums(sums, input.c);
  return {grad_output, input, norm, weight, grad_input, accumulate, grad_weight, sums};
}

template <class T>
BnReluConv1x1Weight<T> bn_relu_conv1x1_weight(const Checks& checks, const Gradient& grad_output, const Map& input,
                                              const Norm& norm, const Memory& centre, const Memory& grad_weight) {
  const Map& grad = grad_output.grad;
  checks.gradient(grad_output);
  checks.map("input", input, grad.n, grad.h, grad.w, input.c);
  checks.norm(norm, input.c);
  checks.optional_vector("centre", centre, input.c);
  checks.expect(grad_weight.given, "grad_weight has no memory");
  checks.grad_weight(grad_weight, grad.c * input.c);
  return {grad_output, input, norm, centre, grad_weight};
}

// A larger dilation than the extents of the maps moves every tap but the middle one out of them, as their largest does.
inline int64_t least_dilation(int64_t dilation, int64_t height, int64_t width) {
  return std::min(dilation, std::max({height, width, int64_t(1)}));
}

template <class T>
BnReluConv3x3Forward<T> bn_relu_conv3x3_forward(const Checks& checks, const Map& input, int64_t input_first_row,
                                                const Norm& norm, const Memory& weight, int64_t dilation,
                                                const Map& output, bool accumulate, const Memory& output_mean,
                                                const Memory& output_variance) {
  checks.map("input", input);
  checks.norm(norm, input.c);
  checks.map("output", output, input.n, output.h, input.w, output.c);
  checks.rows("input", input_first_row, output.h, input.h);
  checks.expect(dilation > 0, "dilation must be positive");
  checks.weight(weight, output.c * 9 * checks.padded(input.c));
  checks.statistics(output_mean, output_variance, output.c);
  const int64_t least = least_dilation(dilation, input.h, input.w);
  return {input, input_first_row, norm, weight, least, output, accumulate, output_mean, output_variance};
}

template <class T>
BnReluConv3x3Backward<T> bn_relu_conv3x3_backward(const Checks& checks, const Gradient& grad_output,
                                                  int64_t grad_first_row, const Map& input, int64_t input_first_row,
                                                  const Norm& norm, const Memory& weight, int64_t dilation,
                                                  const Map& grad_input, const Memory& grad_weight, const Sums& sums) {
  const Map& grad = grad_output.grad;
  checks.gradient(grad_output);
  checks.map("input", input, grad.n, input.h, grad.w, input.c);
  checks.norm(norm, input.c);
  checks.map("grad_input", grad_input, input.n, grad_input.h, input.w, input.c);
  checks.rows("input", input_first_row, grad_input.h, input.h);
  checks.rows("grad_output", grad_first_row, grad_input.h, grad.h);
  checks.expect(dilation > 0, "dilation must be positive");
  checks.weight(weight, 9 * checks.padded(grad.c) * checks.padded(input.c));
  checks.grad_weight(grad_weight, 9 * grad.c * input.c);
  checks.sums(sums, input.c);
  const int64_t least = least_dilation(dilation, std::max(input.h, grad.h), input.w);
  return {grad_output, grad_first_row, input, input_first_row, norm, weight, least, grad_input, grad_weight, sums};
}

template <class T>
BnReluAvgpool2Forward<T> bn_relu_avgpool2_forward(const Checks& checks, const Map& input, const Norm& norm,
                                                  const Map& output) {
  checks.map("input", input);
  checks.norm(norm, input.c);
  checks.map("output", output, input.n, input.h / 2, input.w / 2, input.c);
  return {input, norm, output};
}

template <class T>
BnReluAvgpool2Backward<T> bn_relu_avgpool2_backward(const Checks& checks, const Map& grad_output, const Map& input,
                                                    const Norm& norm, const Map& grad_input, bool accumulate,
                                                    const Sums& sums) {
  checks.map("input", input);
  checks.norm(norm, input.c);
  checks.map("grad_output", grad_output, input.n, input.h / 2, input.w / 2, input.c);
  checks.map_like("grad_input", grad_input, input);
  checks.sums(sums, input.c);
  return {grad_output, input, norm, grad_input, accumulate, sums};
}

template <class T>
BnReluMaxpoolForward<T> bn_relu_maxpool_forward(const Checks& checks, const Map& input, const Norm& norm,
                                                const Map& output, int64_t first_row) {
  checks.map("input", input);
  checks.norm(norm, input.c);
  checks.map("output", output, input.n, output.h, (input.w + 1) / 2, input.c);
  if (output.h > 0) checks.rows("input", first_row, 2 * output.h - 1, input.h);
  return {input, norm, output, first_row};
}

template <class T>
BnReluMaxpoolBackward<T> bn_relu_maxpool_backward(const Checks& checks, const Map& grad_output, const Map& input,
                                                  const Norm& norm, const Map& grad_input, int64_t first_row,
                                                  int64_t first_grad_row, const Sums& sums) {
  checks.map("input", input);
  checks.norm(norm, input.c);
  checks.map("grad_output", grad_output, input.n, grad_output.h, (input.w + 1) / 2, input.c);
  checks.map("grad_input", grad_input, input.n, grad_input.h, input.w, input.c);
  checks.expect(first_row >= 0, "first_row must not be negative");
  checks.rows("input", first_grad_row, grad_input.h, input.h);
  checks.sums(sums, input.c);
  return {grad_output, input, norm, grad_input, first_row, first_grad_row, sums};
}

template <class T>
BnReluPatchesForward<T> bn_relu_patches_forward(const Checks& checks, const Map& input, const Norm& norm,
                                                const Map& output, int64_t first_row) {
  checks.map("input", input);
  checks.norm(norm, input.c);
  checks.map("output", output, input.n, output.h, (input.w + 1) / 2, 9 * input.c);
  checks.rows("input", first_row, output.h > 0 ? 2 * output.h - 1 : 0, input.h);
  return {input, norm, output, first_row};
}

template <class T>
BnReluPatchesBackward<T> bn_relu_patches_backward(const Checks& checks, const Map& grad_output, const Map& input,
                                                  const Norm& norm, const Map& grad_input, int64_t first_row,
                                                  bool add_first_row, const Sums& sums) {
  checks.map("input", input);
  checks.norm(norm, input.c);
  checks.map("grad_output", grad_output, input.n, grad_output.h, (input.w + 1) / 2, 9 * input.c);
  checks.map_like("grad_input", grad_input, input);
  checks.rows("input", first_row, grad_output.h > 0 ? 2 * grad_output.h - 1 : 0, input.h);
  checks.sums(sums, input.c);
  return {grad_output, input, norm, grad_input, first_row, add_first_row, sums};
}

template <class T>
StemForward<T> stem_forward(const Checks& checks, const ImageBatch& images, const Memory& weight, const Norm& norm,
                            const Map& output, const Memory& mean, const Memory& variance, int64_t strip_bytes) {
  checks.map("output", output);
  checks.stem(images, weight, output, strip_bytes);
  checks.norm_or_scale(norm, output.c);
  checks.statistics(mean, variance, output.c);
  return {images, weight, norm, output, mean, variance, strip_bytes};
}

template <class T>
StemBackwardSums<T> stem_backward_sums(const Checks& checks, const Gradient& grad_output, const ImageBatch& images,
                                       const Memory& weight, const Norm& norm, const Sums& sums, int64_t strip_bytes) {
  checks.gradient(grad_output);
  checks.stem(images, weight, grad_output.grad, strip_bytes);
  checks.norm(norm, grad_output.grad.c);
  checks.sums(sums, grad_output.grad.c);
  return {grad_output, images, weight, norm, sums, strip_bytes};
}

template <class T>
StemBackwardWeight<T> stem_backward_weight(const Checks& checks, const Gradient& grad_output, const ImageBatch& images,
                                           const Memory& weight, const Norm& norm, const Memory& constant,
                                           const Memory& slope, const Memory& grad_weight, int64_t strip_bytes) {
  const int64_t outputs = grad_output.grad.c;
  checks.gradient(grad_output);
  checks.stem(images, weight, grad_output.grad, strip_bytes);
  checks.norm(norm, outputs);
  checks.vector("constant", constant, outputs);
  checks.vector("slope", slope, outputs);
  checks.expect(grad_weight.given, "grad_weight has no memory");
  checks.grad_weight(grad_weight, outputs * images.c * 49);
  return {grad_output, images, weight, norm, constant, slope, grad_weight, strip_bytes};
}

template <class T>
StemBackwardImages<T> stem_backward_images(const Checks& checks, const Gradient& grad_output, const ImageBatch& images,
                                           const Memory& weight, const Norm& norm, const Memory& constant,
                                           const Memory& slope, const Map& grad_images, int64_t strip_bytes) {
  const int64_t outputs = grad_output.grad.c;
  checks.gradient(grad_output);
  checks.stem(images, weight, grad_output.grad, strip_bytes);
  checks.norm(norm, outputs);
  checks.vector("constant", constant, outputs);
  checks.vector("slope", slope, outputs);
  checks.map("grad_images", grad_images, images.n, images.h, images.w, images.c);
  return {grad_output, images, weight, norm, constant, slope, grad_images, strip_bytes};
}

template <class T>
PrepareNorms<T> prepare_norms(const Checks& checks, const std::vector<RunningNorm>& norms) {
  PrepareNorms<T> result;
  for (const RunningNorm& norm : norms) {
    checks.expect(norm.channels > 0 && norm.channels < int64_t(1) << 29, "there must be channels, and not too many");
    checks.vector("running_mean", norm.running_mean, norm.channels);
    checks.vector("running_variance", norm.running_variance, norm.channels);
    checks.optional_vector("gamma", norm.gamma, norm.channels);
    checks.optional_vector("beta", norm.beta, norm.channels);
    checks.vector("norm", norm.norm, 3 * norm.channels);
    checks.memory("invstd", norm.invstd, norm.channels, Checks::kDouble);
    result.norms.push_back({norm.channels, norm.running_mean, norm.running_variance, norm.gamma, norm.beta,
                            norm.epsilon, norm.norm, norm.invstd});
  }
  return result;
}

template <class T>
PrepareWeights<T> prepare_weights(const Checks& checks, const std::vector<Weight>& weights) {
  PrepareWeights<T> result;
  for (const Weight& weight : weights) {
    checks.unprepared_weight(weight);
    result.weights.push_back({weight.source, weight.real, weight.stride, weight.outputs, weight.channels, weight.taps,
                              weight.form, weight.prepared});
  }
  return result;
}

template <class T>
UpsampleForward<T> upsample_forward(const Checks& checks, const Map& coarse, const Map& output, int64_t first_row,
                                    int64_t height) {
  checks.map("coarse", coarse);
  checks.map("output", output, coarse.n, output.h, output.w, coarse.c);
  checks.rows("the upsampled map", first_row, output.h, height);
  checks.expect(!coarse.empty() || output.empty(), "coarse has no pixels");
  return {coarse, output, first_row, height};
}

template <class T>
UpsampleBackward<T> upsample_backward(const Checks& checks, const Map& grad_output, const Map& grad_coarse) {
  checks.map("grad_output", grad_output);
  checks.map("grad_coarse", grad_coarse, grad_output.n, grad_coarse.h, grad_coarse.w, grad_output.c);
  checks.expect(!grad_coarse.empty() || grad_output.empty(), "grad_coarse has no pixels");
  return {grad_output, grad_coarse};
}

template <class T>
UpsampleProjectConcatForward<T> upsample_project_concat_forward(const Checks& checks, const Map& coarse,
                                                                const Map& skip, const Norm& norm, const Memory& weight,
                                                                const Map& output) {
  checks.map("coarse", coarse, skip.n, coarse.h, coarse.w, coarse.c);
  checks.map("skip", skip);
  checks.norm(norm, skip.c);
  checks.map("output", output, skip.n, skip.h, skip.w, output.c);
  checks.expect(output.c > coarse.c, "output has no channels for the projection");
  checks.expect(!coarse.empty() || skip.empty(), "coarse has no pixels");
  checks.weight(weight, (output.c - coarse.c) * skip.c);
  return {coarse, skip, norm, weight, output};
}

template <class T>
LabelledScores<T> labelled_scores(const Checks& checks, const Map& logits, const Memory& labels, LabelType label_type,
                                  int64_t height, int64_t width, bool align_corners, const Memory& class_weights,
                                  int64_t ignore_index, double label_smoothing) {
  checks.map("logits", logits);
  checks.expect(logits.h > 0 && logits.w > 0 && height > 0 && width > 0, "logits and labels must have pixels");
  checks.memory("labels", labels, logits.n * height * width, label_bytes(label_type));
  checks.optional_vector("class_weights", class_weights, logits.c);
  return {logits, labels, label_type, height, width, align_corners, class_weights, ignore_index, label_smoothing};
}

template <class T>
UpsampleCrossEntropy<T> upsample_cross_entropy(const Checks& checks, const Map& logits, const Memory& labels,
                                               LabelType label_type, int64_t height, int64_t width, bool align_corners,
                                               const Memory& class_weights, int64_t ignore_index,
                                               double label_smoothing, bool mean, const Memory& pixel_weights,
                                               bool one_weight, const Memory& grad_class_sums, const Memory& loss,
                                               const Map& grad_logits, const Memory& invalid_pixel) {
  const LabelledScores<T> scores = labelled_scores<T>(checks, logits, labels, label_type, height, width, align_corners,
                                                      class_weights, ignore_index, label_smoothing);
  checks.optional_vector("pixel_weights", pixel_weights, one_weight ? 1 : logits.n * height * width);
  checks.optional_vector("grad_class_sums", grad_class_sums, logits.n * 3 * logits.c);
  checks.expect(!mean || !grad_class_sums.given, "a mean has no grad_class_sums");
  checks.memory("loss", loss, 1, Checks::kDouble);
  checks.optional_map("grad_logits", grad_logits, logits);
  checks.memory("invalid_pixel", invalid_pixel, 1, sizeof(int64_t));
  return {scores, mean, pixel_weights, one_weight, grad_class_sums, loss, grad_logits, invalid_pixel};
}

template <class T>
UpsamplePixelLosses<T> upsample_pixel_losses(const Checks& checks, const Map& logits, const Memory& labels,
                                             LabelType label_type, int64_t height, int64_t width, bool align_corners,
                                             const Memory& class_weights, int64_t ignore_index, double label_smoothing,
                                             const Memory& losses, const Memory& loss_sums, const Memory& class_sums,
                                             const Memory& invalid_pixel) {
  const LabelledScores<T> scores = labelled_scores<T>(checks, logits, labels, label_type, height, width, align_corners,
                                                      class_weights, ignore_index, label_smoothing);
  checks.optional_vector("losses", losses, logits.n * height * width);
  checks.memory("loss_sums", loss_sums, 2, Checks::kDouble);
  checks.optional_memory("class_sums", class_sums, logits.n * 3 * logits.c, Checks::kDouble);
  checks.memory("invalid_pixel", invalid_pixel, 1, sizeof(int64_t));
  return {scores, losses, loss_sums, class_sums, invalid_pixel};
}

template <class T>
UpsampleArgmax<T> upsample_argmax(const Checks& checks, const Map& scores, const Memory& labels, int64_t height,
                                  int64_t width, bool align_corners) {
  checks.map("scores", scores);
  checks.expect(scores.c <= 256, "scores are of more than 256 classes");
  checks.expect(scores.h > 0 && scores.w > 0 && height > 0 && width > 0, "scores and labels must have pixels");
  checks.memory("labels", labels, scores.n * height * width, 1);
  return {scores, labels, height, width, align_corners};
}

}  // namespace ladderseg::bindings::arguments_of
