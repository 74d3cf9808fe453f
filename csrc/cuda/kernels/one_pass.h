// The sizes of bn_relu_conv1x1_backward.cu, for the kernels and for their launcher.
#pragma once

namespace ladderseg::cuda {

// Channels of the gradient, at most: a tile of pixels of all of them lies in shared memory.
constexpr int kOnePassGradients = 128;

// Channels and pixels of a tile of the input.
constexpr int one_pass_columns(int element_bytes, bool tensor) { return element_bytes == 8 && !tensor ? 32 : 64; }
constexpr int one_pass_pixels(int element_bytes, bool tensor) {
  return tensor ? 128 / element_bytes : element_bytes == 8 ? 32 : 64;
}

}  // namespace ladderseg::cuda
