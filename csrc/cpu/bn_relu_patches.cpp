// BN-ReLU of the patches of a 3x3 convolution with stride 2, forward and backward: see ladderseg/bn_relu_patches.h.
#include <cstring>

#include "bn_sums.h"
#include "operators.h"
#include "parallel.h"
#include "prefetch.h"

namespace ladderseg {
namespace LADDERSEG_ISA {

// Patches ahead of which the backward requests its parts: from pixel to pixel it skips two thirds of a patch or more.
constexpr int64_t kAhead = 2;

template <class T>
void bn_relu_patches_forward(const BnReluPatchesForward<T>& args, int threads) {
  const FeatureMap<const T>& input = args.input;
  parallel(threads, [&](int member, int team) {
    const Range range = split(args.output.pixels(), member, team);
    for (int64_t p = range.begin; p < range.end; ++p) {
      const int64_t column = p % args.output.w;
      const int64_t row = p / args.output.w % args.output.h;
      const int64_t image = p / (args.output.w * args.output.h);
      T* to = args.output.pixel(p);
      for (int64_t tap = 0; tap < 9; ++tap, to += input.c) {
        const int64_t y = args.first_row + 2 * row + tap / 3 - 1, x = 2 * column + tap % 3 - 1;
        if (y >= 0 && y < input.h && x >= 0 && x < input.w)
          bn_relu_pixel(input.c, input.at(image, y, x), args.norm, to);
        else
          std::memset(to, 0, input.c * sizeof(T));
      }
    }
  });
}

// In one direction, the patches that contain a position, and where in them it is.
struct Taps {
  int64_t patch[2];
  int64_t tap[2];
  int count = 0;

  // `offset` is counted from the centre of the first of `patches`.
  LADDERSEG_INLINE Taps(int64_t offset, int64_t patches) {
    if (offset % 2 == 0) {
      add(offset / 2, 1, patches);
    } else {
      add((offset - 1) >> 1, 2, patches);
      add((offset + 1) >> 1, 0, patches);
    }
  }
  LADDERSEG_INLINE void add(int64_t p, int64_t t, int64_t patches) {
    if (p < 0 || p >= patches) return;
    patch[count] = p;
    tap[count++] = t;
  }
};

// The backward at one input pixel, whose gradient is the sum of `count` parts.
template <int count, bool accumulate, class T>
LADDERSEG_INLINE void backward_pixel(int64_t channels, const T* const (&parts)[4], const T* x,
                                     const Norm<RealOf<T>>& norm, T* grad_input, RealOf<T>* masked,
                                     RealOf<T>* centred) {
  for_each_channel_vector<T>(channels, [&](int64_t c, auto zero) {
    using V = decltype(zero);
    V g = {};
    for (int i = 0; i < count; ++i) g = g + load_as<V>(parts[i] + c);
    const V scale = load_as<V>(norm.scale + c), d = load_as<V>(x + c) - load_as<V>(norm.mean + c);
    const V m = relu_mask(d * scale + load_as<V>(norm.shift + c), g);
    V result = scale * m;
    if constexpr (accumulate) result = result + load_as<V>(grad_input + c);
    store_as<V>(grad_input + c, result);
    store_as<V>(masked + c, load_as<V>(masked + c) + m);
    store_as<V>(centred + c, load_as<V>(centred + c) + m * d);
  });
}

template <bool accumulate, class T>
void backward_row(const BnReluPatchesBackward<T>& args, int64_t image, int64_t y, const BnSumsScratch<T>& sums,
                  char* base) {
  const int64_t channels = args.input.c;
  const FeatureMap<const T>& grads = args.grad_output;
  const Taps vertical(y - args.first_row, grads.h);
  RealOf<T>* const masked = sums.masked.in(base);
  RealOf<T>* const centred = sums.centred.in(base);
  for (int64_t x = 0; x < args.input.w; ++x) {
    const Taps horizontal(x, grads.w);
    const T* parts[4] = {};
    int count = 0;
    for (int v = 0; v < vertical.count; ++v)
      for (int h = 0; h < horizontal.count; ++h)
        parts[count++] = grads.at(image, vertical.patch[v], horizontal.patch[h]) +
                         (3 * vertical.tap[v] + horizontal.tap[h]) * channels;
    const T* const from = args.input.at(image, y, x);
    T* const to = args.grad_input.at(image, y, x);
    for (int i = 0; i < count; ++i) prefetch(parts[i] + kAhead * grads.pixel_stride, channels);
    if (count == 4)
      backward_pixel<4, accumulate>(channels, parts, from, args.norm, to, masked, centred);
    else if (count == 2)
      backward_pixel<2, accumulate>(channels, parts, from, args.norm, to, masked, centred);
    else if (count == 1)
      backward_pixel<1, accumulate>(channels, parts, from, args.norm, to, masked, centred);
    else if (!accumulate)
      std::memset(to, 0, channels * sizeof(T));
    if (x % 64 == 63) sums.flush(base, channels);
  }
  sums.flush(base, channels);
}

template <class T>
void bn_relu_patches_backward(const BnReluPatchesBackward<T>& args, int threads) {
  const int64_t channels = args.input.c, height = args.input.h;
  ScratchLayout own;
  const BnSumsScratch<T> sums(own, channels);
  char* const scratch = reserve_scratch(threads * own.bytes);
  const auto base_of = [&](int member) { return scratch + member * own.bytes; };

  parallel(threads, [&](int member, int team) {
    char* const base = base_of(member);
    sums.start(base, channels);
    const Range rows = split(args.input.n * height, member, team);
    for (int64_t row = rows.begin; row < rows.end; ++row) {
      const int64_t image = row / height, y = row % height;
      if (y == 0 && args.add_first_row)
        backward_row<true>(args, image, y, sums, base);
      else
        backward_row<false>(args, image, y, sums, base);
    }
    barrier(team);
    if (member == 0) sums.finish(team, base_of, channels, args.sums);
  });
}

LADDERSEG_INSTANTIATE(bn_relu_patches_forward)
LADDERSEG_INSTANTIATE(bn_relu_patches_backward)

}  // namespace LADDERSEG_ISA
}  // namespace ladderseg
