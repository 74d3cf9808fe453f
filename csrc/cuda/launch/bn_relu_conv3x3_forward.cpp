// Launch of BN-ReLU-conv3x3: see ladderseg/bn_relu_conv3x3.h.
#include "bn_relu_conv3x3.h"
#include "columns.h"
#include "patches.h"
#include "products.h"
#include "statistics.h"

namespace ladderseg::cuda {
namespace {

constexpr PatchKernels kKernels = {"bn_relu_conv3x3_forward", "bn_relu_conv3x3_forward_small",
                                   "bn_relu_conv3x3_forward_tensor", "bn_relu_conv3x3_forward_tensor_narrow"};

}  // namespace

void bn_relu_conv3x3_forward(const Queue& queue, const BnReluConv3x3Forward<void>& args) {
  const int64_t pixels = args.output.pixels(), columns = args.output.c, channels = padded(queue, args.input.c);
  const bool wide_rows = wide(queue, args.input) && aligned(args.weight);
  const bool tensor = wide_rows && wide(args.norm) && multiplies_by_tensor_cores(queue) &&
                      fit_tensor_patches(args.input, kTaps * columns * channels);
  const PatchVariant chosen = tensor ? tensor_patch_variant(kKernels, args.output, args.dilation, kTensorForwardColumns)
                                     : patch_variant(queue, kKernels, args.output, args.dilation);
  PartialStatistics partial{};
  if (args.output_mean) partial = allocate_partial_statistics(queue, chosen.patches.count, columns, pixels);
  const BnReluConv3x3ForwardArguments<void, void> arguments{args.input,
                                                            args.input_first_row,
                                                            args.norm,
                                                            args.weight,
                                                            static_cast<int>(channels),
                                                            args.output,
                                                            chosen.patches,
                                                            partial.data,
                                                            partial.counts,
                                                            static_cast<int>(chosen.column_tiles),
                                                            wide_rows,
                                                            wide(args.norm),
                                                            wide(queue, args.output),
                                                            args.accumulate};
  Launch call{
      "bn_relu_conv3x3_forward", chosen.kernel, {patch_blocks(chosen.patches, chosen.column_tiles)}, {chosen.threads}};
  call.buffers = {buffer(queue, args.input, Access::read, "input"),
                  weight_buffer(queue, args.weight, kTaps * columns * channels),
                  buffer(queue, args.output, args.accumulate ? Access::read_write : Access::write, "output")};
  add_norm(queue, args.norm, args.input.c, call.buffers);
  if (args.output_mean) add_statistics(queue, partial, call.buffers);
  call.operations = 2.0 * kTaps * pixels * columns * args.input.c;
  launch(queue, call, &arguments);
  if (args.output_mean) finish_statistics(queue, partial, args.output_mean, args.output_variance);
}

}  // namespace ladderseg::cuda
