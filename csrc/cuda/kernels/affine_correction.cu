// The deferred batch norm correction: see ladderseg/affine_correction.h.
#include "affine_correction.h"
#include "columns.cuh"

namespace ladderseg::cuda {

template <int width>
LADDERSEG_DEVICE void affine_correction(const AffineCorrectionArguments<Element, Real>& args) {
  const int64 c = column<width>();
  if (c >= args.output.c) return;
  const auto mean = load_vector<width>(args.gradient.mean + c);
  const auto constant = load_vector<width>(args.gradient.constant + c);
  const auto slope = load_vector<width>(args.gradient.slope + c);
  const PixelRange range = block_pixels(args.columns, args.output.pixels());
  for (int64 p = range.begin + threadIdx.y; p < range.end; p += blockDim.y) {
    const auto x = load<width>(args.gradient.input.pixel(p) + c);
    auto values = load<width>(args.gradient.grad.pixel(p) + c);
#pragma unroll
    for (int i = 0; i < width; ++i)
      values.values[i] = values.values[i] - constant.values[i] - slope.values[i] * (x.values[i] - mean.values[i]);
    store<width>(args.output.pixel(p) + c, values);
  }
}

extern "C" __global__ void __launch_bounds__(kColumnThreads)
    LADDERSEG_KERNEL(affine_correction)(const AffineCorrectionArguments<Element, Real> args) {
  if (args.columns.wide)
    affine_correction<kWide>(args);
  else
    affine_correction<1>(args);
}

}  // namespace ladderseg::cuda
