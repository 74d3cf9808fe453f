// Bilinear upsampling and its transpose: see ladderseg/upsample.h.
#include <cstring>

#include "bilinear.h"
#include "operators.h"
#include "parallel.h"

namespace ladderseg {
namespace LADDERSEG_ISA {

template <class T>
void upsample_forward(const UpsampleForward<T>& args, int threads) {
  const int64_t height = args.output.h, width = args.output.w;
  ScratchLayout shared;
  const BilinearAxisScratch<T> vertical_scratch(shared, args.height), horizontal_scratch(shared, width);
  char* const scratch = reserve_scratch(shared.bytes);
  const BilinearAxis<T> vertical = vertical_scratch.fill(scratch, args.coarse.h, args.height);
  const BilinearAxis<T> horizontal = horizontal_scratch.fill(scratch, args.coarse.w, width);

  parallel(threads, [&](int member, int team) {
    const Range rows = split(args.output.n * height, member, team);
    for (int64_t row = rows.begin; row < rows.end; ++row)
      for (int64_t x = 0; x < width; ++x)
        upsample_pixel(args.coarse, row / height, row % height + args.first_row, x, vertical, horizontal,
                       args.output.pixel(row * width + x));
  });
}

// Each member owns rows of the coarse gradient. For one coarse row the fine rows that read it are blended into a line
// of fine pixels, and that line is gathered into the coarse pixels: every sum has one order.
template <class T>
void upsample_backward(const UpsampleBackward<T>& args, int threads) {
  const FeatureMap<const T>& fine = args.grad_output;
  const FeatureMap<T>& coarse = args.grad_coarse;
  const int64_t channels = coarse.c;
  ScratchLayout shared;
  const BilinearAxisScratch<T> vertical_scratch(shared, fine.h), horizontal_scratch(shared, fine.w);
  ScratchLayout own;
  using Real = RealOf<T>;
  const Region<Real> line = own.add<Real>(fine.w * channels), result = own.add<Real>(coarse.w * channels);
  char* const scratch = reserve_scratch(shared.bytes + threads * own.bytes);
  const BilinearAxis<T> vertical = vertical_scratch.fill(scratch, coarse.h, fine.h);
  const BilinearAxis<T> horizontal = horizontal_scratch.fill(scratch, coarse.w, fine.w);

  parallel(threads, [&](int member, int team) {
    char* const base = scratch + shared.bytes + member * own.bytes;
    Real* const sum = line.in(base);
    Real* const gathered = result.in(base);
    const Range rows = split(coarse.n * coarse.h, member, team);
    for (int64_t row = rows.begin; row < rows.end; ++row) {
      const int64_t image = row / coarse.h, i = row % coarse.h;
      std::memset(sum, 0, fine.w * channels * sizeof(Real));
      for (int64_t y = 0; y < fine.h; ++y) {
        const Real weight = (vertical.lower[y] == i ? Real(1) - vertical.weight[y] : Real(0)) +
                            (vertical.upper[y] == i ? vertical.weight[y] : Real(0));
        if (vertical.lower[y] != i && vertical.upper[y] != i) continue;
        for (int64_t x = 0; x < fine.w; ++x) add_scaled(channels, weight, fine.at(image, y, x), sum + x * channels);
      }
      std::memset(gathered, 0, coarse.w * channels * sizeof(Real));
      for (int64_t x = 0; x < fine.w; ++x) {
        const Real right = horizontal.weight[x];
        add_scaled(channels, Real(1) - right, sum + x * channels, gathered + horizontal.lower[x] * channels);
        add_scaled(channels, right, sum + x * channels, gathered + horizontal.upper[x] * channels);
      }
      for (int64_t x = 0; x < coarse.w; ++x) copy_elements(gathered + x * channels, channels, coarse.at(image, i, x));
    }
  });
}

LADDERSEG_INSTANTIATE(upsample_forward)
LADDERSEG_INSTANTIATE(upsample_backward)

}  // namespace LADDERSEG_ISA
}  // namespace ladderseg
