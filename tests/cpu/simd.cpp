// Exports simd.h to test_simd.py.
#include "simd.h"

#include "exports.h"

using namespace ladderseg::LADDERSEG_ISA;

EXPORT int64_t lanes() { return Simd<Element>::lanes; }

// A vector's worth of elements, from and to any address.
EXPORT void copy_vector(const Element* from, Element* to) { store(to, load(from)); }

// to[c] = relu(from[c]), and widths[c] the number of channels in the vector that c was in.
EXPORT void relu_channels(int64_t channels, const Element* from, Element* to, int64_t* widths) {
  for_each_channel_vector<Element>(channels, [&](int64_t c, auto v) {
    using V = decltype(v);
    store_as<V>(to + c, relu(load_as<V>(from + c)));
    constexpr int64_t width = sizeof(V) / sizeof(Element);
    for (int64_t lane = 0; lane < width; ++lane) widths[c + lane] += width;
  });
}

EXPORT void relu_mask_channels(int64_t channels, const Element* y, const Element* grad, Element* to) {
  for_each_channel_vector<Element>(channels, [&](int64_t c, auto v) {
    using V = decltype(v);
    store_as<V>(to + c, relu_mask(load_as<V>(y + c), load_as<V>(grad + c)));
  });
}

EXPORT int64_t smaller_of(int64_t a, int64_t b) { return smaller(a, b); }
EXPORT int64_t rounded_up(int64_t value, int64_t multiple) { return round_up(value, multiple); }
