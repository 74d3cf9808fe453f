// The microkernel: a register block of a matrix product.
#pragma once

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

// C[i, j] (+)= sum_k A(i, k) * B[k, j] for i < rows, j < columns of the register block.
//
// Accumulating adds the finished sum to C, so that a long sum consists of shorter ones: its rounding error grows with
// the length of the parts.
//
// `a` gives A(i, k); B is a panel of `depth` rows of `columns` contiguous elements.
template <bool accumulate, int rows, class T, class Elements>
LADDERSEG_INLINE void multiply_elements(int64_t depth, const Elements& a, const T* __restrict panel, T* __restrict c,
                                        int64_t c_row) {
  using Block = RegisterBlock<T>;
  using Vector = typename Simd<T>::Vector;
  constexpr int lanes = Simd<T>::lanes;
  Vector sum[rows][Block::vectors];
#pragma GCC unroll 16
  for (int i = 0; i < rows; ++i)
#pragma GCC unroll 2
    for (int v = 0; v < Block::vectors; ++v) sum[i][v] = Vector{};
  for (int64_t k = 0; k < depth; ++k) {
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
template <bool accumulate, class T, int rows = RegisterBlock<T>::rows>
LADDERSEG_INLINE void multiply(int64_t depth, const T* __restrict a, int64_t a_row, int64_t a_depth,
                               const T* __restrict panel, T* __restrict c, int64_t c_row) {
  multiply_elements<accumulate, rows>(
      depth, [=](int64_t i, int64_t k) __attribute__((always_inline)) { return a[i * a_row + k * a_depth]; }, panel, c,
      c_row);
}

}  // namespace LADDERSEG_ISA
}  // namespace ladderseg
