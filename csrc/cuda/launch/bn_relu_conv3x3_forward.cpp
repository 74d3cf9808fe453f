// Launch of BN-ReLU-conv3x3: see ladderseg/bn_relu_conv3x3.h.
#include "bn_relu_conv3x3.h"
#include "columns.h"
#include "patches.h"
#include "products.h"
#include "statistics.h"

namespace ladderseg::cuda {
namespace {

// The kernel of a forward, and its division of the output.
struct Variant {
  const char* kernel;
  PatchGrid patches;
  int64_t row_tiles, column_tiles;
};

Variant tensor_variant(const Queue& queue, const FeatureMap<void>& output) {
  const bool narrow = output.c <= kNarrowColumns;
  return {narrow ? "bn_relu_conv3x3_forward_tensor_narrow" : "bn_relu_conv3x3_forward_tensor",
          {},
          ceil_divide(output.pixels(), product_rows(element_bytes(queue.element), true)),
          ceil_divide(output.c, narrow ? kNarrowColumns : kConv3x3Columns)};
}

Variant variant(const Queue& queue, const FeatureMap<void>& output, int64_t dilation) {
  const int64_t column_tiles = ceil_divide(output.c, kPatchColumns);
  const PatchChoice choice = choose_patches(queue, output, dilation, column_tiles);
  return {choice.small ? "bn_relu_conv3x3_forward_small" : "bn_relu_conv3x3_forward", choice.grid, choice.grid.count,
          column_tiles};
}

}  // namespace

void bn_relu_conv3x3_forward(const Queue& queue, const BnReluConv3x3Forward<void>& args) {
  const int64_t pixels = args.output.pixels(), columns = args.output.c, channels = padded(queue, args.input.c);
  const bool wide_rows = wide(queue, args.input) && aligned(args.weight);
  const bool tensor = wide_rows && multiplies_by_tensor_cores(queue);
  const Variant chosen = tensor ? tensor_variant(queue, args.output) : variant(queue, args.output, args.dilation);
  PartialStatistics partial{};
  if (args.output_mean)
    partial = tensor ? allocate_partial_statistics(queue, chosen.row_tiles, columns, pixels,
                                                   product_rows(element_bytes(queue.element), true))
                     : allocate_partial_statistics(queue, chosen.row_tiles, columns, pixels);
  const BnReluConv3x3ForwardArguments<void, void> arguments{args.input,
                                                            args.input_first_row,
                                                            args.norm,
                                                            divisor(channels),
                                                            args.weight,
                                                            distance(args.dilation),
                                                            args.output,
                                                            chosen.patches,
                                                            partial.data,
                                                            partial.counts,
                                                            static_cast<int>(chosen.column_tiles),
                                                            wide_rows,
                                                            wide(args.norm),
                                                            wide(queue, args.output),
                                                            args.accumulate};
  Launch call{"bn_relu_conv3x3_forward",
              chosen.kernel,
              {static_cast<unsigned>(chosen.row_tiles * chosen.column_tiles)},
              kProductBlock};
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
