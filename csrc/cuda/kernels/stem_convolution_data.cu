// The gradient of the images from that of the stem's convolution: see ladderseg/stem.h.
//
// A thread has one pixel of one channel of an image, which up to 4 x 4 positions of the convolution read.
#include "stem_tile.cuh"

namespace ladderseg::cuda {

using DataArguments = StemDataArguments<Element, Real>;

struct DataMemory {
  alignas(16) Real weight[kStemTaps][kStemOutputs + kStemPiece];  // of one channel
};

// The sum over `count` of the block's outputs, from the gradient at one position.
template <bool wide>
LADDERSEG_DEVICE Real product(const Element* grad, const Real* weight, int count) {
  Real sum = Real(0);
  for (int k = 0; k < count; k += kWide) {
    const Pack<kWide> pack = unpack(fetch_chunk<wide>(grad + k, count - k));
#pragma unroll
    for (int j = 0; j < kWide; ++j) sum += pack.values[j] * weight[k + j];
  }
  return sum;
}

template <bool wide>
LADDERSEG_DEVICE void work(const DataArguments& args, DataMemory& memory) {
  const FeatureMap<const Element>& grad = args.grad_output;
  const StemTile tile(args.tiles, blockIdx.x, kStemDataRows, kStemDataColumns);
  const int64 channel = blockIdx.y, channels = args.grad_images.c;
  const int64 y = args.first_image_row + tile.row + threadIdx.x / kStemDataColumns;
  const int64 x = tile.column + threadIdx.x % kStemDataColumns;
  Real sum = Real(0);
  for (int64 first_output = 0; first_output < grad.c; first_output += kStemOutputs) {
    const int outputs = static_cast<int>(smaller(kStemOutputs, grad.c - first_output));
    if (first_output > 0) __syncthreads();
    for (int i = threadIdx.x; i < kStemOutputs * kStemTaps; i += kStemDataRows * kStemDataColumns) {
      const int output = i / kStemTaps, tap = i % kStemTaps;
      const int64 number = ((first_output + output) * channels + channel) * kStemTaps + tap;
      memory.weight[tap][output] = output < outputs ? to_real(args.weight[number]) : Real(0);
    }
    __syncthreads();
    // Of the filter's rows and columns every second one meets this pixel.
    for (int u = static_cast<int>((y + kStemPadding) % kStemStride); u < kStemKernel; u += kStemStride) {
      const int64 r = (y + kStemPadding - u) / kStemStride - args.first_row;
      if (y + kStemPadding < u || r < 0 || r >= grad.h) continue;
      for (int v = static_cast<int>((x + kStemPadding) % kStemStride); v < kStemKernel; v += kStemStride) {
        const int64 q = (x + kStemPadding - v) / kStemStride;
        if (x + kStemPadding < v || q >= grad.w) continue;
        sum += product<wide>(grad.at(tile.image, r, q) + first_output, memory.weight[kStemKernel * u + v], outputs);
      }
    }
  }
  if (y >= args.grad_images.h || x >= args.grad_images.w) return;
  Element* const to = args.grad_images.at(tile.image, y, x) + channel;
  *to = to_element(to_real(*to) + sum);
}

extern "C" __global__ void __launch_bounds__(kStemDataRows* kStemDataColumns, 2)
    LADDERSEG_KERNEL(stem_convolution_data)(const DataArguments args) {
  __shared__ DataMemory memory;
  if (args.wide)
    work<true>(args, memory);
  else
    work<false>(args, memory);
}

}  // namespace ladderseg::cuda
