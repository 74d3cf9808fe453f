// Sizes of the blocks that compute the weight gradient of a 3x3 convolution, for the kernels and their launcher.
#pragma once

namespace ladderseg::cuda {

// Channels and outputs of a block: as many as make 72 sums a thread on the ordinary units, or half as many of doubles,
// and 48 on tensor cores.
constexpr int weight_channels(int element_bytes) { return element_bytes == 8 ? 16 : 32; }
constexpr int kWeightOutputs = 32;

constexpr int weight_threads(bool tensor) { return tensor ? 192 : 256; }

// Pixels of a patch: what fits into shared memory, on tensor cores twice.
constexpr int weight_patch_height(int element_bytes, bool) { return element_bytes == 8 ? 4 : 8; }
constexpr int weight_patch_width(int element_bytes, bool tensor) { return tensor && element_bytes == 4 ? 8 : 16; }

// A part of the sum has at least so many patches, because it is written and read once more.
constexpr int kWeightPatches = 2;

}  // namespace ladderseg::cuda
