// The softmax of a fine pixel's upsampled scores, and its loss: see ladderseg/upsample_cross_entropy.h.
#pragma once

#include <cmath>

#include "bilinear.h"
#include "exp.h"
#include "ladderseg/upsample_cross_entropy.h"
#include "scratch.h"

namespace ladderseg {
namespace LADDERSEG_ISA {

LADDERSEG_INLINE int64_t read_label(const void* labels, LabelType type, int64_t i) {
  switch (type) {
    case LabelType::uint8:
      return static_cast<const uint8_t*>(labels)[i];
    case LabelType::int32:
      return static_cast<const int32_t*>(labels)[i];
    default:
      return static_cast<const int64_t*>(labels)[i];
  }
}

template <class T>
LADDERSEG_INLINE T sum_lanes(typename Simd<T>::Vector values) {
  T sum = values[0];
  for (int i = 1; i < Simd<T>::lanes; ++i) sum += values[i];
  return sum;
}

// Vectors run along classes: a pixel's scores are padded to whole vectors with copies of class 0 (which change no
// maximum) that a mask keeps out of the sums.
template <class T>
struct UpsampledSoftmax {
  using Real = RealOf<T>;
  using Vector = typename Simd<T>::Vector;
  static constexpr int lanes = Simd<T>::lanes;

  // Of one pixel. The terms exp(score - maximum) themselves are in `pixel`.
  struct Terms {
    Real maximum, at_label, sum;
    Real smoothed;  // the part of the loss that label smoothing adds, but for the logarithm
  };

  // What a label and its class's weight make of the target q: `at_label` without smoothing's share, and sum_k q[k].
  struct Target {
    Real at_label, total;
  };

  const LabelledScores<T>& args;
  const int64_t classes, padded;
  const bool smoothing;
  const Real kept;  // 1 - label_smoothing
  const BilinearAxisScratch<T> vertical_scratch, horizontal_scratch;
  const Region<Real> mask;    // [padded]: 1 for a class, 0 for padding
  const Region<Real> shares;  // [padded]: what label smoothing gives to each class
  const Region<Real> line;    // [w, padded], a member's own: a row of logits at the height of a fine row
  const Region<Real> pixel;   // [padded], a member's own: scores, then the terms of their softmax
  Real shares_total;
  BilinearAxis<T> vertical, horizontal;

  UpsampledSoftmax(const LabelledScores<T>& arguments, ScratchLayout& shared, ScratchLayout& own)
      : args(arguments),
        classes(args.logits.c),
        padded(round_up<int64_t>(classes, lanes)),
        smoothing(args.label_smoothing != 0.0),
        kept(static_cast<Real>(1.0 - args.label_smoothing)),
        vertical_scratch(shared, args.height),
        horizontal_scratch(shared, args.width),
        mask(shared.add<Real>(padded)),
        shares(shared.add<Real>(padded)),
        line(own.add<Real>(args.logits.w * padded)),
        pixel(own.add<Real>(padded)),
        shares_total(0),
        vertical{},
        horizontal{} {}

  LADDERSEG_INLINE void prepare(char* scratch) {
    vertical = vertical_scratch.fill(scratch, args.logits.h, args.height, args.align_corners);
    horizontal = horizontal_scratch.fill(scratch, args.logits.w, args.width, args.align_corners);
    double total = 0.0;
    for (int64_t k = 0; k < padded; ++k) {
      mask.in(scratch)[k] = k < classes ? Real(1) : Real(0);
      shares.in(scratch)[k] =
          k < classes ? static_cast<Real>(args.label_smoothing / classes * static_cast<double>(class_weight(k)))
                      : Real(0);
      total += static_cast<double>(shares.in(scratch)[k]);
    }
    shares_total = static_cast<Real>(total);
  }

  LADDERSEG_INLINE Real class_weight(int64_t k) const { return args.class_weights ? args.class_weights[k] : Real(1); }

  LADDERSEG_INLINE Target target(Real weight) const {
    if (!smoothing) return {weight, weight};
    const Real at_label = kept * weight;
    return {at_label, at_label + shares_total};
  }

  LADDERSEG_INLINE void blend_line(char* base, int64_t image, int64_t y) const {
    for (int64_t x = 0; x < args.logits.w; ++x) {
      Real* to = line.in(base) + x * padded;
      blend(classes, args.logits.at(image, vertical.lower[y], x), args.logits.at(image, vertical.upper[y], x),
            vertical.weight[y], to);
      for (int64_t k = classes; k < padded; ++k) to[k] = to[0];
    }
  }

  LADDERSEG_INLINE Terms terms(char* scratch, char* base, int64_t x, int64_t label) const {
    const Real* a = line.in(base) + horizontal.lower[x] * padded;
    const Real* b = line.in(base) + horizontal.upper[x] * padded;
    const Real right = horizontal.weight[x], left = Real(1) - right;
    Real* const v = pixel.in(base);
    Vector largest = left * load(a) + right * load(b);
    for (int64_t k = 0; k < padded; k += lanes) {
      const Vector value = left * load(a + k) + right * load(b + k);
      store(v + k, value);
      largest = value > largest ? value : largest;
    }
    Real maximum = largest[0];
    for (int i = 1; i < lanes; ++i) maximum = largest[i] > maximum ? largest[i] : maximum;
    const Real at_label = v[label];
    const Real smoothed = smoothing ? smoothed_distance(scratch, v, maximum) : Real(0);
    Vector sums = {};
    for (int64_t k = 0; k < padded; k += lanes) {
      const Vector e = exp_nonpositive(load(v + k) - maximum) * load(mask.in(scratch) + k);
      store(v + k, e);
      sums += e;
    }
    return {maximum, at_label, sum_lanes<Real>(sums), smoothed};
  }

  // The shares of the classes times the distances of their scores from the largest.
  LADDERSEG_INLINE Real smoothed_distance(char* scratch, const Real* v, Real maximum) const {
    const Vector zero = {};
    Vector sums = {};
    for (int64_t k = 0; k < padded; k += lanes) {
      const Vector distance = load(shares.in(scratch) + k) * (maximum - load(v + k));
      sums += load(mask.in(scratch) + k) != zero ? distance : zero;
    }
    return sum_lanes<Real>(sums);
  }

  LADDERSEG_INLINE double loss(const Target& target, const Terms& terms) const {
    const double logarithm = static_cast<double>(std::log(terms.sum));
    const double distance = static_cast<double>(terms.maximum - terms.at_label);
    return static_cast<double>(target.total) * logarithm + static_cast<double>(target.at_label) * distance +
           static_cast<double>(terms.smoothed);
  }
};

}  // namespace LADDERSEG_ISA
}  // namespace ladderseg
