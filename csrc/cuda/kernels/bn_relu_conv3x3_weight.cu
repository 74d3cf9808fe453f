// Backward of batch norm, rectification and 3x3 convolution, for the weight: see ladderseg/bn_relu_conv3x3.h.
//
// The result is small and the sum is long, so parts of the sum are computed by different blocks and added up in a fixed
// order.
#include "conv3x3_weight_simt.cuh"
#include "conv3x3_weight_tensor.cuh"

namespace ladderseg::cuda {

extern "C" __global__ void __launch_bounds__(SimtWeightTile::kThreads, 2)
    LADDERSEG_KERNEL(bn_relu_conv3x3_weight)(const WeightArguments args) {
  __shared__ SimtWeightTile::Memory memory;
  SimtWeightTile(args, memory).work();
}

#if LADDERSEG_TENSOR_CORES
// Only for wide rows.
extern "C" __global__ void __launch_bounds__(TensorWeightTile::kThreads, TensorWeightTile::kBlocks)
    LADDERSEG_KERNEL(bn_relu_conv3x3_weight_tensor)(const WeightArguments args) {
  __shared__ TensorWeightTile::Memory memory;
  TensorWeightTile(args, memory).work();
}
#endif

}  // namespace ladderseg::cuda
