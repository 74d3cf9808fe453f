// Launches of batch norm's arithmetic on vectors: see ladderseg/batch_norm.h.
#include "../kernels/batch_norm.h"

#include "columns.h"
#include "operators.h"

namespace ladderseg::cuda {
namespace {

Launch launch_of(const char* kernel, int64_t channels) {
  return {"batch_norm", kernel, {static_cast<unsigned>(ceil_divide(channels, kBatchNormThreads))}, {kBatchNormThreads}};
}

void add_doubles(Launch& call, const double* data, int64_t channels, Access access, const char* name) {
  call.buffers.push_back(buffer(data, channels * static_cast<int64_t>(sizeof(double)), access, name));
}

}  // namespace

void batch_norm_forward(const Queue& queue, const BatchNormForward<void>& args) {
  const int64_t channels = args.channels;
  const BatchNormForwardArguments<void> arguments{
      channels,      args.mean,      args.variance,   args.running_mean, args.running_variance,
      args.batches,  args.gamma,     args.beta,       args.epsilon,      args.momentum,
      args.unbiased, args.norm_mean, args.norm_scale, args.norm_shift,   args.invstd};
  Launch call = launch_of("batch_norm_forward", channels);
  const auto add = [&](const void* data, Access access, const char* name) {
    if (data) call.buffers.push_back(vector_buffer(queue, data, channels, name, access));
  };
  if (args.mean) {
    add_doubles(call, args.mean, channels, Access::read, "mean");
    add_doubles(call, args.variance, channels, Access::read, "variance");
  }
  const Access running = args.mean ? Access::read_write : Access::read;
  add(args.running_mean, running, "running_mean");
  add(args.running_variance, running, "running_variance");
  if (args.batches) call.buffers.push_back(buffer(args.batches, sizeof(int64_t), Access::read_write, "batches"));
  add(args.gamma, Access::read, "gamma");
  add(args.beta, Access::read, "beta");
  add(args.norm_mean, Access::write, "norm's mean");
  add(args.norm_scale, Access::write, "norm's scale");
  add(args.norm_shift, Access::write, "norm's shift");
  add_doubles(call, args.invstd, channels, Access::write, "invstd");
  call.operations = 10.0 * channels;
  launch(queue, call, &arguments);
}

void batch_norm_backward(const Queue& queue, const BatchNormBackward<void>& args) {
  const int64_t channels = args.channels;
  const BatchNormBackwardArguments<void> arguments{channels,       args.positions, args.sums.masked, args.sums.centred,
                                                   args.invstd,    args.norm.mean, args.norm.scale,  args.grad_gamma,
                                                   args.grad_beta, args.mean,      args.constant,    args.slope,
                                                   args.accumulate};
  Launch call = launch_of("batch_norm_backward", channels);
  const auto add = [&](const void* data, Access access, const char* name) {
    if (data) call.buffers.push_back(vector_buffer(queue, data, channels, name, access));
  };
  add_doubles(call, args.sums.masked, channels, Access::read, "masked");
  add_doubles(call, args.sums.centred, channels, Access::read, "centred");
  add_doubles(call, args.invstd, channels, Access::read, "invstd");
  add(args.norm.mean, Access::read, "norm's mean");
  add(args.norm.scale, Access::read, "norm's scale");
  add(args.grad_gamma, Access::write, "grad_gamma");
  add(args.grad_beta, Access::write, "grad_beta");
  add(args.mean, Access::write, "mean");
  const Access correction = args.accumulate ? Access::read_write : Access::write;
  add(args.constant, correction, "constant");
  add(args.slope, correction, "slope");
  call.operations = 10.0 * channels;
  launch(queue, call, &arguments);
}

}  // namespace ladderseg::cuda
