// The deferred batch norm correction: see ladderseg/affine_correction.h.
#include "columns.cuh"
#include "ladderseg/affine_correction.h"

namespace ladderseg::cuda {

using Arguments = InColumns<AffineCorrection<Element, Real>>;

template <int width>
LADDERSEG_DEVICE void affine_correction(const AffineCorrection<Element, Real>& args, const Columns& columns) {
  const int64 c = column<width>();
  if (c >= args.output.c) return;
  const auto mean = load_vector<width>(args.gradient.mean + c);
  const auto constant = load_vector<width>(args.gradient.constant + c);
  const auto slope = load_vector<width>(args.gradient.slope + c);
  const PixelRange range = block_pixels(columns, args.output.pixels());
  for (int64 p = range.begin + threadIdx.y; p < range.end; p += blockDim.y) {
    const auto x = load<width>(args.gradient.input.pixel(p) + c);
    auto values = load<width>(args.gradient.grad.pixel(p) + c);
#pragma unroll
    for (int i = 0; i < width; ++i)
      values.values[i] = values.values[i] - constant.values[i] - slope.values[i] * (x.values[i] - mean.values[i]);
    store<width>(args.output.pixel(p) + c, values);
  }
}

extern "C" __global__ void __launch_bounds__(kColumnThreads) LADDERSEG_KERNEL(affine_correction)(const Arguments args) {
  if (args.columns.wide)
    affine_correction<kWide>(args.op, args.columns);
  else
    affine_correction<1>(args.op, args.columns);
}

}  // namespace ladderseg::cuda
