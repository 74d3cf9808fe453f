// Minimal filtering F(m, 3) (Winograd 1980): m neighbouring results of a filter with three taps from m + 2 inputs and
// as many multiplications instead of 3m, exactly but for rounding:
//
//   y = A^T [(G w) * (B^T d)]        d: m + 2 inputs, w: taps, y: m results, *: element by element
//
// y is bilinear in d and w, so the gradient of w takes the same multiplications: dw = G^T [(A g) * (B^T d)] with g the
// gradient of y. The matrices follow from interpolation of polynomials at m + 1 points and infinity (Toom and Cook).
//
// V is a number or a vector of the maps' type; transforms of weights are in double, and are rounded once.
#pragma once

#include <type_traits>
#include <utility>

#include "simd.h"

namespace ladderseg {
namespace LADDERSEG_ISA {

template <int results>
struct MinimalFilter;

// F(2, 3) at 0, 1, -1 and infinity, as Lavin and Gray scale it (CVPR 2016):
//
//   B^T = 1  0 -1  0     G = 1    0    0      A^T = 1  1  1  0
//         0  1  1  0         1/2  1/2  1/2          0  1 -1 -1
//         0 -1  1  0         1/2 -1/2  1/2
//         0  1  0 -1         0    0    1
template <>
struct MinimalFilter<2> {
  static constexpr int results = 2, inputs = 4;

  // B^T d
  template <class V>
  static LADDERSEG_INLINE void input(const V (&d)[4], V (&point)[4]) {
    point[0] = d[0] - d[2];
    point[1] = d[1] + d[2];
    point[2] = d[2] - d[1];
    point[3] = d[1] - d[3];
  }

  // A^T m
  template <class V>
  static LADDERSEG_INLINE void result(const V (&m)[4], V (&y)[2]) {
    y[0] = m[0] + m[1] + m[2];
    y[1] = m[1] - m[2] - m[3];
  }

  // A g
  template <class V>
  static LADDERSEG_INLINE void gradient(const V (&g)[2], V (&point)[4]) {
    point[0] = g[0];
    point[1] = g[0] + g[1];
    point[2] = g[0] - g[1];
    point[3] = -g[1];
  }

  // G w
  template <class V>
  static LADDERSEG_INLINE void weight(const V (&w)[3], V (&point)[4]) {
    point[0] = w[0];
    point[1] = 0.5 * (w[0] + w[1] + w[2]);
    point[2] = 0.5 * (w[0] - w[1] + w[2]);
    point[3] = w[2];
  }

  // G^T s
  template <class V>
  static LADDERSEG_INLINE void weight_gradient(const V (&s)[4], V (&grad)[3]) {
    grad[0] = s[0] + 0.5 * (s[1] + s[2]);
    grad[1] = 0.5 * (s[1] - s[2]);
    grad[2] = 0.5 * (s[1] + s[2]) + s[3];
  }
};

// F(4, 3) at 0, a, -a, b, -b and infinity:
//
//   B^T = a2 b2    0      -(a2+b2)  0        1  0
//         0       -a b2   -b2       a        1  0
//         0        a b2   -b2      -a        1  0
//         0       -b a2   -a2       b        1  0
//         0        b a2   -a2      -b        1  0
//         0        a2 b2   0       -(a2+b2)  0  1
//
//   G = 1    0   0     times 1 / (a2 b2)
//       1    a   a2    times 1 / (2 a2 (a2-b2))
//       1   -a   a2    likewise
//       1    b   b2    times 1 / (2 b2 (b2-a2))
//       1   -b   b2    likewise
//       0    0   1
//
//   A^T = 1   1   1   1   1   0
//         0   a  -a   b  -b   0
//         0   a2  a2  b2  b2  0
//         0   a3 -a3  b3 -b3  1
//
// where a2, b2 are squares and a3, b3 cubes. The usual points 1 and 2 lose twice as many digits: of pairs in
// sixteenths, 5/8 and 3/2 were the most accurate (benchmarks/NOTES.md; the method is that of Barabasz et al., ACM TOMS
// 46, 2020). All factors of the maps are exact in float32.
template <>
struct MinimalFilter<4> {
  static constexpr int results = 4, inputs = 6;
  static constexpr double a = 0.625, b = 1.5, a2 = a * a, b2 = b * b;
  static constexpr double at_zero = 1.0 / (a2 * b2), at_a = 0.5 / (a2 * (a2 - b2)), at_b = 0.5 / (b2 * (b2 - a2));

  // B^T d
  template <class V>
  static LADDERSEG_INLINE void input(const V (&d)[6], V (&point)[6]) {
    point[0] = factor<V>(a2 * b2) * d[0] + (d[4] - factor<V>(a2 + b2) * d[2]);
    around(d[4] - factor<V>(b2) * d[2], factor<V>(a), d[3] - factor<V>(b2) * d[1], point[1], point[2]);
    around(d[4] - factor<V>(a2) * d[2], factor<V>(b), d[3] - factor<V>(a2) * d[1], point[3], point[4]);
    point[5] = factor<V>(a2 * b2) * d[1] + (d[5] - factor<V>(a2 + b2) * d[3]);
  }

  // A^T m
  template <class V>
  static LADDERSEG_INLINE void result(const V (&m)[6], V (&y)[4]) {
    const V even_a = m[1] + m[2], odd_a = m[1] - m[2], even_b = m[3] + m[4], odd_b = m[3] - m[4];
    y[0] = m[0] + even_a + even_b;
    y[1] = factor<V>(a) * odd_a + factor<V>(b) * odd_b;
    y[2] = factor<V>(a2) * even_a + factor<V>(b2) * even_b;
    y[3] = factor<V>(a * a2) * odd_a + (factor<V>(b * b2) * odd_b + m[5]);
  }

  // A g
  template <class V>
  static LADDERSEG_INLINE void gradient(const V (&g)[4], V (&point)[6]) {
    point[0] = g[0];
    around(g[0] + factor<V>(a2) * g[2], factor<V>(a), g[1] + factor<V>(a2) * g[3], point[1], point[2]);
    around(g[0] + factor<V>(b2) * g[2], factor<V>(b), g[1] + factor<V>(b2) * g[3], point[3], point[4]);
    point[5] = g[3];
  }

  // G w
  template <class V>
  static LADDERSEG_INLINE void weight(const V (&w)[3], V (&point)[6]) {
    point[0] = at_zero * w[0];
    around(at_a * w[0] + at_a * a2 * w[2], V{} + at_a * a, w[1], point[1], point[2]);
    around(at_b * w[0] + at_b * b2 * w[2], V{} + at_b * b, w[1], point[3], point[4]);
    point[5] = w[2];
  }

  // G^T s
  template <class V>
  static LADDERSEG_INLINE void weight_gradient(const V (&s)[6], V (&grad)[3]) {
    const V even_a = at_a * (s[1] + s[2]), even_b = at_b * (s[3] + s[4]);
    grad[0] = at_zero * s[0] + even_a + even_b;
    grad[1] = at_a * a * (s[1] - s[2]) + at_b * b * (s[3] - s[4]);
    grad[2] = a2 * even_a + b2 * even_b + s[5];
  }

 private:
  // A constant as an element of V, so that products are in the maps' type.
  template <class V>
  static LADDERSEG_INLINE V factor(double value) {
    if constexpr (sizeof(V) <= sizeof(double))
      return static_cast<V>(value);
    else
      return V{} + static_cast<std::remove_reference_t<decltype(std::declval<V&>()[0])>>(value);
  }

  // The values at a point and at its negative: of the even powers, plus and minus those of the odd ones.
  template <class V>
  static LADDERSEG_INLINE void around(V even, V factor, V odd, V& at_point, V& at_negative) {
    at_point = even + factor * odd;
    at_negative = even - factor * odd;
  }
};

}  // namespace LADDERSEG_ISA
}  // namespace ladderseg
