// Exports bilinear.h to test_bilinear.py.
#include "bilinear.h"

#include <cstring>
#include <vector>

#include "exports.h"

using namespace ladderseg;
using namespace ladderseg::LADDERSEG_ISA;

namespace {

// An axis with memory of its own.
struct Axis {
  ScratchLayout layout;
  BilinearAxisScratch<Element> scratch;
  std::vector<char> memory;
  BilinearAxis<Element> axis;

  Axis(int64_t coarse, int64_t fine, bool align_corners = false)
      : scratch(layout, fine), memory(layout.bytes), axis(scratch.fill(memory.data(), coarse, fine, align_corners)) {}
};

}  // namespace

EXPORT void fill_axis(int64_t coarse, int64_t fine, bool align_corners, int64_t* lower, int64_t* upper,
                      Element* weight) {
  const Axis axis(coarse, fine, align_corners);
  std::memcpy(lower, axis.axis.lower, fine * sizeof(int64_t));
  std::memcpy(upper, axis.axis.upper, fine * sizeof(int64_t));
  std::memcpy(weight, axis.axis.weight, fine * sizeof(Element));
}

EXPORT void blend_rows(int64_t count, const Element* a, const Element* b, Element weight, Element* to) {
  blend(count, a, b, weight, to);
}

EXPORT void add_scaled_row(int64_t count, Element weight, const Element* from, Element* to) {
  add_scaled(count, weight, from, to);
}

// Every pixel of `to` [n, height, width, c], from `coarse`, a map [n, h, w, c] with `stride` elements a pixel.
EXPORT void upsample_map(const Element* coarse, int64_t n, int64_t h, int64_t w, int64_t c, int64_t stride,
                         int64_t height, int64_t width, Element* to) {
  const FeatureMap<const Element> map{coarse, n, h, w, c, stride};
  const Axis vertical(h, height), horizontal(w, width);
  for (int64_t image = 0; image < n; ++image)
    for (int64_t y = 0; y < height; ++y)
      for (int64_t x = 0; x < width; ++x, to += c) upsample_pixel(map, image, y, x, vertical.axis, horizontal.axis, to);
}
