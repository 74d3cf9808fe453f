// The microkernel: a register block of a matrix product.
#pragma once

#include <type_traits>

#include "simd.h"

namespace ladderseg {
namespace LADDERSEG_ISA {

// A block of kRows x kColumns results stays in registers: with AVX-512 24 of 32, with AVX2 12 of 16, else 8 of 16;
// the others hold the row of B and the broadcast element of A. Two vectors a row hide the latency of the
// multiply-adds and halve the broadcasts.
template <class T>
struct RegisterBlock {
  static constexpr int vectors = 2;
  static constexpr int columns = vectors * Simd<T>::lanes;
  static constexpr int rows = LADDERSEG_VECTOR_BYTES == 64 ? 12 : LADDERSEG_VECTOR_BYTES == 32 ? 6 : 4;
};

// What a product calls while it goes on, after every kStepsBetween steps of k: memory that is requested more densely is
// waited for, or the requests are lost.
constexpr int64_t kStepsBetween = 16;

// Calls of `meanwhile` by a product of so many steps.
LADDERSEG_INLINE int64_t calls_meanwhile(int64_t steps) { return (steps + kStepsBetween - 1) / kStepsBetween; }

struct Nothing {
  LADDERSEG_INLINE void operator()() const {}
};
constexpr Nothing kNothing{};

// Calls `meanwhile` at step k if it is due; never in the loop of products that do nothing besides.
template <class Meanwhile>
LADDERSEG_INLINE void call_meanwhile(int64_t k, Meanwhile& meanwhile) {
  if constexpr (!std::is_same_v<Meanwhile, const Nothing>)
    if (k % kStepsBetween == 0) meanwhile();
}

// C[i, j] (+)= sum_k A(i, k) * B[k, j] for i < rows, j < columns of the register block.
//
// Accumulating adds the finished sum to C, so that a long sum consists of shorter ones: its rounding error grows with
// the length of the parts.
//
// `a` gives A(i, k); B is a panel of `depth` rows of `columns` contiguous elements.
template <bool accumulate, int rows, class T, class Elements, class Meanwhile = const Nothing>
LADDERSEG_INLINE void multiply_elements(int64_t depth, const Elements& a, const T* __restrict panel, T* __restrict c,
                                        int64_t c_row, Meanwhile& meanwhile = kNothing) {
  using Block = RegisterBlock<T>;
  using Vector = typename Simd<T>::Vector;
  constexpr int lanes = Simd<T>::lanes;
  Vector sum[rows][Block::vectors];
#pragma GCC unroll 16
  for (int i = 0; i < rows; ++i)
#pragma GCC unroll 2
    for (int v = 0; v < Block::vectors; ++v) sum[i][v] = Vector{};
  for (int64_t k = 0; k < depth; ++k) {
    call_meanwhile(k, meanwhile);
    Vector b[Block::vectors];
#pragma GCC unroll 2
    for (int v = 0; v < Block::vectors; ++v) b[v] = load(panel + k * Block::columns + v * lanes);
#pragma GCC unroll 16
    for (int i = 0; i < rows; ++i) {
      const T element = a(i, k);
#pragma GCC unroll 2
      for (int v = 0; v < Block::vectors; ++v) sum[i][v] += element * b[v];
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < rows; ++i)
#pragma GCC unroll 2
    for (int v = 0; v < Block::vectors; ++v) {
      T* to = c + i * c_row + v * lanes;
      store(to, accumulate ? load(to) + sum[i][v] : sum[i][v]);
    }
}

// The same with A(i, k) = a[i * a_row + k * a_depth].
template <bool accumulate, class T, int rows = RegisterBlock<T>::rows, class Meanwhile = const Nothing>
LADDERSEG_INLINE void multiply(int64_t depth, const T* __restrict a, int64_t a_row, int64_t a_depth,
                               const T* __restrict panel, T* __restrict c, int64_t c_row,
                               Meanwhile& meanwhile = kNothing) {
  multiply_elements<accumulate, rows>(
      depth, [=](int64_t i, int64_t k) __attribute__((always_inline)) { return a[i * a_row + k * a_depth]; }, panel, c,
      c_row, meanwhile);
}

// How many successive k one instruction multiplies. Panels have them side by side for each column: [depth / pair]
// [columns][pair]; a depth that is no multiple is filled up with zeros, in A too.
template <class T>
constexpr int64_t kPair = std::is_same_v<T, BFloat16> ? 2 : 1;

// Rows of a panel for a product of this depth.
template <class T>
LADDERSEG_INLINE int64_t panel_rows(int64_t depth) {
  return round_up(depth, kPair<T>);
}

template <bool accumulate, int rows, class Pairs, class Meanwhile = const Nothing>
void multiply_pairs(int64_t pairs, const Pairs& a, const BFloat16* __restrict panel, float* __restrict c, int64_t c_row,
                    Meanwhile& meanwhile = kNothing);

#if defined(__AVX512BF16__)
// The same for bfloat16 with sums in float: `a` gives the address of A(i, 2 * k) and A(i, 2 * k + 1), side by side.
template <bool accumulate, int rows, class Pairs, class Meanwhile>
LADDERSEG_INLINE void multiply_pairs(int64_t pairs, const Pairs& a, const BFloat16* __restrict panel,
                                     float* __restrict c, int64_t c_row, Meanwhile& meanwhile) {
  using Block = RegisterBlock<BFloat16>;
  constexpr int lanes = Simd<BFloat16>::lanes;
  __m512 sum[rows][Block::vectors];
#pragma GCC unroll 16
  for (int i = 0; i < rows; ++i)
#pragma GCC unroll 2
    for (int v = 0; v < Block::vectors; ++v) sum[i][v] = _mm512_setzero_ps();
  for (int64_t k = 0; k < pairs; ++k) {
    call_meanwhile(k, meanwhile);
    __m512bh b[Block::vectors];
#pragma GCC unroll 2
    for (int v = 0; v < Block::vectors; ++v)
      b[v] = reinterpret_cast<__m512bh>(_mm512_loadu_si512(panel + 2 * (k * Block::columns + v * lanes)));
#pragma GCC unroll 16
    for (int i = 0; i < rows; ++i) {
      int32_t pair;
      std::memcpy(&pair, a(i, k), sizeof(pair));
      const __m512bh elements = reinterpret_cast<__m512bh>(_mm512_set1_epi32(pair));
#pragma GCC unroll 2
      for (int v = 0; v < Block::vectors; ++v) sum[i][v] = _mm512_dpbf16_ps(sum[i][v], elements, b[v]);
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < rows; ++i)
#pragma GCC unroll 2
    for (int v = 0; v < Block::vectors; ++v) {
      float* const to = c + i * c_row + v * lanes;
      const Simd<float>::Vector result = reinterpret_cast<Simd<float>::Vector>(sum[i][v]);
      store(to, accumulate ? load(to) + result : result);
    }
}

// The same with A(i, 2 * k) and A(i, 2 * k + 1) at a + i * a_row + 2 * k * a_depth.
template <bool accumulate, int rows = RegisterBlock<BFloat16>::rows, class Meanwhile = const Nothing>
LADDERSEG_INLINE void multiply(int64_t depth, const BFloat16* __restrict a, int64_t a_row, int64_t a_depth,
                               const BFloat16* __restrict panel, float* __restrict c, int64_t c_row,
                               Meanwhile& meanwhile = kNothing) {
  multiply_pairs<accumulate, rows>((depth + 1) / 2,
                                   [=](int64_t i, int64_t k)
                                       __attribute__((always_inline)) { return a + i * a_row + 2 * k * a_depth; },
                                   panel, c, c_row, meanwhile);
}
#endif

}  // namespace LADDERSEG_ISA
}  // namespace ladderseg
