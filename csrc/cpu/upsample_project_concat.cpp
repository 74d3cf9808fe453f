// Upsampled coarse features beside the projected skip connection: see ladderseg/upsample_project_concat.h.
#include <cstring>

#include "bilinear.h"
#include "conv1x1_tile.h"
#include "operators.h"
#include "parallel.h"

namespace ladderseg {
namespace LADDERSEG_ISA {

template <class T>
void upsample_project_concat_forward(const UpsampleProjectConcatForward<T>& args, int threads) {
  const int64_t channels = args.skip.c, upsampled = args.coarse.c, projected = args.output.c - upsampled;
  const int64_t height = args.skip.h, width = args.skip.w;
  constexpr int64_t columns = RegisterBlock<T>::columns;
  ScratchLayout shared;
  const Region<T> packed = shared.add<T>(round_up(projected, columns) * panel_rows<T>(channels));
  const BilinearAxisScratch<T> vertical_scratch(shared, height), horizontal_scratch(shared, width);
  ScratchLayout own;
  const ProjectionTile<T> tile(own, channels, projected);
  char* const scratch = reserve_scratch(shared.bytes + threads * own.bytes);
  const auto base_of = [&](int member) { return scratch + shared.bytes + member * own.bytes; };
  const BilinearAxis<T> vertical = vertical_scratch.fill(scratch, args.coarse.h, height);
  const BilinearAxis<T> horizontal = horizontal_scratch.fill(scratch, args.coarse.w, width);

  parallel(threads, [&](int member, int team) {
    char* const base = base_of(member);
    const Range mine = split(tile.panels, member, team);
    pack_transposed(args.weight, projected, channels, mine.begin, mine.end, packed.in(scratch));
    barrier(team);

    const Range range = split(args.skip.pixels(), member, team, RegisterBlock<T>::rows);
    for (int64_t p = range.begin; p < range.end; p += kTilePixels) {
      const int64_t pixels = smaller(kTilePixels, range.end - p);
      const int64_t next = smaller(kTilePixels, range.end - p - pixels);
      tile.run(base, args.skip.pixel(p), args.skip.pixel_stride, pixels, next, args.norm, packed.in(scratch),
               args.output.pixel(p) + upsampled, args.output.pixel_stride,
               [&](int64_t m, int64_t count, const RealOf<T>* product) __attribute__((always_inline)) {
                 T* const to = args.output.pixel(p) + upsampled + m;
                 copy_products(product, pixels, count, to, args.output.pixel_stride);
               });
      for (int64_t i = 0; i < pixels; ++i) {
        const int64_t x = (p + i) % width, y = (p + i) / width % height, image = (p + i) / (width * height);
        upsample_pixel(args.coarse, image, y, x, vertical, horizontal, args.output.pixel(p + i));
      }
    }
  });
}

LADDERSEG_INSTANTIATE(upsample_project_concat_forward)

}  // namespace LADDERSEG_ISA
}  // namespace ladderseg
