// Backward of batch norm, rectification and 1x1 convolution in one pass over the maps (ALGORITHMS.md section 4), for
// gradients of few channels: see ladderseg/bn_relu_conv1x1.h.
//
// A block goes over a part of the pixels, tile by tile, for some of the input's channels. Per tile it brings the
// gradient of all M channels to shared memory and computes
//
//   g[p, c] = sum over m of grad_output[p, m] * weight[m, c],   masked, summed, added to grad_input and never stored
//   grad_weight[m, c] += sum over p of grad_output[p, m] * y[p, c]
//
// where the input is read once for both. What is summed over pixels stays in registers to the end of the walk.
#include "one_pass_simt.cuh"
#include "one_pass_tensor.cuh"

namespace ladderseg::cuda {

extern "C" __global__ void __launch_bounds__(kProductThreads, 2)
    LADDERSEG_KERNEL(bn_relu_conv1x1_backward)(const BackwardArguments args) {
  __shared__ SimtPass::Memory memory;
  SimtPass pass;
  if (args.wide)
    pass.walk<true>(args, memory);
  else
    pass.walk<false>(args, memory);
}

#if LADDERSEG_TENSOR_CORES
extern "C" __global__ void __launch_bounds__(kProductThreads, kTensorBlocks)
    LADDERSEG_KERNEL(bn_relu_conv1x1_backward_tensor)(const BackwardArguments args) {
  __shared__ TensorPass::Memory memory;
  TensorPass pass;
  pass.walk(args, memory);
}
#endif

}  // namespace ladderseg::cuda
