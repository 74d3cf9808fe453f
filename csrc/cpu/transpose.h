// Transposes of matrices: squares of one vector's width in registers.
#pragma once

#include <cstring>
#include <type_traits>
#include <utility>

#include "gemm.h"
#include "prefetch.h"

namespace ladderseg {
namespace LADDERSEG_ISA {

// Elements from_0, to_0, from_1, to_1 ... of the first (half = 0) or the second half of two vectors.
template <class T, int half, size_t... lane>
LADDERSEG_INLINE typename Simd<T>::Vector interleave(typename Simd<T>::Vector a, typename Simd<T>::Vector b,
                                                     std::index_sequence<lane...>) {
  constexpr int lanes = Simd<T>::lanes;
#if defined(__clang__)
  return __builtin_shufflevector(a, b, static_cast<int>((half * lanes + lane) / 2 + lane % 2 * lanes)...);
#else  // GCC has that one since version 12 only
  using Integer = std::conditional_t<sizeof(T) == 4, int32_t, int64_t>;
  typedef Integer Indices __attribute__((vector_size(LADDERSEG_VECTOR_BYTES)));
  return __builtin_shuffle(a, b, Indices{static_cast<Integer>((half * lanes + lane) / 2 + lane % 2 * lanes)...});
#endif
}

// to[j * to_row + i] = from[i * from_row + j] for i, j < lanes.
//
// A perfect shuffle of the rows, log2(lanes) times: each time rows i and i + lanes / 2 become rows 2 * i and 2 * i + 1.
template <class T>
LADDERSEG_INLINE void transpose_square(const T* from, int64_t from_row, T* to, int64_t to_row) {
  constexpr int lanes = Simd<T>::lanes;
  constexpr std::make_index_sequence<lanes> all{};
  typename Simd<T>::Vector row[lanes], shuffled[lanes];
#pragma GCC unroll 16
  for (int i = 0; i < lanes; ++i) row[i] = load(from + i * from_row);
#pragma GCC unroll 4
  for (int step = 1; step < lanes; step *= 2) {
#pragma GCC unroll 8
    for (int i = 0; i < lanes / 2; ++i) {
      shuffled[2 * i] = interleave<T, 0>(row[i], row[i + lanes / 2], all);
      shuffled[2 * i + 1] = interleave<T, 1>(row[i], row[i + lanes / 2], all);
    }
#pragma GCC unroll 16
    for (int i = 0; i < lanes; ++i) row[i] = shuffled[i];
  }
#pragma GCC unroll 16
  for (int i = 0; i < lanes; ++i) store(to + i * to_row, row[i]);
}

// to[j * to_row + i] = from[i * from_row + j] for i < rows, j < columns, and zero for rows <= i < lanes.
template <class T>
LADDERSEG_INLINE void transpose_rows(const T* from, int64_t from_row, int64_t rows, int64_t columns, T* to,
                                     int64_t to_row) {
  constexpr int64_t lanes = Simd<T>::lanes;
  // The rows lie too far apart for the processor's own prefetching.
  constexpr int64_t ahead = 4 * kCacheLine / static_cast<int64_t>(sizeof(T));
  for (int64_t j = 0; j < columns; j += lanes) {
    const int64_t width = smaller(lanes, columns - j);
    if (rows == lanes && width == lanes) {
      if (j + ahead < columns)
        for (int64_t i = 0; i < lanes; ++i) __builtin_prefetch(from + i * from_row + j + ahead);
      transpose_square(from + j, from_row, to + j * to_row, to_row);
      continue;
    }
    T part[lanes * lanes] = {}, transposed[lanes * lanes];
    for (int64_t i = 0; i < rows; ++i) std::memcpy(part + i * lanes, from + i * from_row + j, width * sizeof(T));
    transpose_square(part, lanes, transposed, lanes);
    for (int64_t k = 0; k < width; ++k) std::memcpy(to + (j + k) * to_row, transposed + k * lanes, lanes * sizeof(T));
  }
}

#if defined(__AVX512BF16__)
// to[2 * j] = first[j] and to[2 * j + 1] = second[j], for j < count rounded up to whole vectors. `to` may be `first` if
// count is at most two vectors and `second` follows it.
LADDERSEG_INLINE void pair_rows(const BFloat16* first, const BFloat16* second, int64_t count, BFloat16* to) {
  constexpr int64_t lanes = Simd<BFloat16>::lanes;
  const auto paired = [&](int64_t j) {
    const __m256i low = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(first + j));
    const __m256i high = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(second + j));
    return _mm512_or_si512(_mm512_cvtepu16_epi32(low), _mm512_slli_epi32(_mm512_cvtepu16_epi32(high), 16));
  };
  for (int64_t j = 0; j < count; j += 2 * lanes) {
    const __m512i left = paired(j), right = j + lanes < count ? paired(j + lanes) : __m512i{};
    _mm512_storeu_si512(to + 2 * j, left);
    if (j + lanes < count) _mm512_storeu_si512(to + 2 * (j + lanes), right);
  }
}
#endif

// Pairs the rows of a panel [depth, columns] in place, if products of T are of pairs (gemm.h). An odd depth needs a row
// of zeros behind it.
template <class T>
LADDERSEG_INLINE void pair_panel([[maybe_unused]] T* panel, [[maybe_unused]] int64_t depth) {
  if constexpr (kPair<T> > 1) {
    constexpr int64_t columns = RegisterBlock<T>::columns;
    for (int64_t k = 0; k < depth; k += 2)
      pair_rows(panel + k * columns, panel + (k + 1) * columns, columns, panel + k * columns);
  }
}

}  // namespace LADDERSEG_ISA
}  // namespace ladderseg
