// Launch of the backward of BN-ReLU-conv3x3 for the input, and both halves of the backward: see
// ladderseg/bn_relu_conv3x3.h.
#include "bn_relu_conv3x3.h"
#include "bn_sums.h"
#include "columns.h"
#include "patches.h"
#include "products.h"

namespace ladderseg::cuda {
namespace {

constexpr PatchKernels kKernels = {"bn_relu_conv3x3_data", "bn_relu_conv3x3_data_small", "bn_relu_conv3x3_data_tensor",
                                   "bn_relu_conv3x3_data_tensor_narrow"};

}  // namespace

void conv3x3_backward_data(const Queue& queue, const BnReluConv3x3Backward<void>& args) {
  const FeatureMap<const void>& grad = args.grad_output.grad;
  const int64_t pixels = args.grad_input.pixels(), columns = args.input.c;
  const int64_t grad_channels = padded(queue, grad.c), padded_channels = padded(queue, columns);
  const bool wide_rows = wide(queue, args.grad_output) && aligned(args.weight);
  const bool wide_input = wide(queue, args.input) && wide(queue, args.grad_input);
  const bool tensor = wide_rows && wide_input && wide(args.norm) && wide_correction(args.grad_output) &&
                      multiplies_by_tensor_cores(queue) &&
                      fit_tensor_patches(grad, kTaps * grad_channels * padded_channels) &&
                      (!args.grad_output.input.data || fit_tensor_patches(args.grad_output.input, 0));
  const PatchVariant chosen = tensor
                                  ? tensor_patch_variant(kKernels, args.grad_input, args.dilation, kTensorDataColumns)
                                  : patch_variant(queue, kKernels, args.grad_input, args.dilation);
  const PartialSums partial = allocate_partial_sums(queue, chosen.patches.count, columns);
  const BnReluConv3x3DataArguments<void, void> arguments{args.grad_output,
                                                         args.grad_first_row,
                                                         args.input,
                                                         args.input_first_row,
                                                         args.norm,
                                                         args.weight,
                                                         static_cast<int>(grad_channels),
                                                         static_cast<int>(padded_channels),
                                                         args.grad_input,
                                                         chosen.patches,
                                                         partial.data,
                                                         static_cast<int>(chosen.column_tiles),
                                                         wide_rows,
                                                         wide_correction(args.grad_output),
                                                         wide_input};
  Launch call{
      "bn_relu_conv3x3_data", chosen.kernel, {patch_blocks(chosen.patches, chosen.column_tiles)}, {chosen.threads}};
  call.buffers = {buffer(queue, args.input, Access::read, "input"),
                  weight_buffer(queue, args.weight, kTaps * grad_channels * padded_channels),
                  buffer(queue, args.grad_input, Access::write, "grad_input"), buffer(queue, partial)};
  add_gradient(queue, args.grad_output, call.buffers);
  add_norm(queue, args.norm, columns, call.buffers);
  call.operations = 2.0 * kTaps * pixels * columns * grad.c;
  launch(queue, call, &arguments);
  finish_bn_sums(queue, partial, args.sums);
}

void bn_relu_conv3x3_backward(const Queue& queue, const BnReluConv3x3Backward<void>& args) {
  conv3x3_backward_data(queue, args);
  if (args.grad_weight) conv3x3_backward_weight(queue, args);
}

}  // namespace ladderseg::cuda
