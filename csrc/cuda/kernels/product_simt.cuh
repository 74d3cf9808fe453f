// A tile of a matrix product on the ordinary arithmetic units: for every architecture and element type.
//
//   result[i, j] = sum over depth of left[i, depth] * right[j, depth],   kRows x kColumns by 256 threads
//
// Shared memory holds Reals with the index contiguous. A thread computes a kThreadRows x kThreadColumns part of the
// result, in pieces of 16 bytes that lie 16 bytes times the number of threads apart: so the threads of a warp read
// neighbouring 16-byte words, or the same ones.
#pragma once

#include "operand.cuh"
#include "product.h"

namespace ladderseg::cuda {

template <int columns>
struct SimtTile {
  static constexpr int kThreads = kProductThreads;
  static constexpr int kRows = product_rows(sizeof(Element), false);
  static constexpr int kColumns = columns;
  static constexpr int kDepth = product_depth(sizeof(Element), false);
  static constexpr bool kTransposes = true;
  static constexpr bool kAsynchronous = false;

  static constexpr int kAcross = columns == kNarrowColumns ? 8 : 16;  // threads side by side
  static constexpr int kDown = kThreads / kAcross;
  static constexpr int kThreadRows = kRows / kDown;
  static constexpr int kThreadColumns = kColumns / kAcross;
  static constexpr int kPiece = 16 / sizeof(Real);
  static constexpr int kRowPiece = kThreadRows < kPiece ? kThreadRows : kPiece;
  static constexpr int kColumnPiece = kThreadColumns < kPiece ? kThreadColumns : kPiece;
  // Threads that share columns of the result.
  static constexpr int kGroups = kDown;

  template <Contiguous contiguous, int kIndices>
  struct Side {
    // With a depth contiguous, neighbouring threads store the two or four chunks of a row of depth, transposed. The
    // padding puts these half a round of the banks, or a quarter, apart.
    static constexpr int kPadding = contiguous == Contiguous::depth && sizeof(Element) > 2 ? kPiece : 0;
    alignas(16) Real values[kDepth][kIndices + kPadding];

    LADDERSEG_DEVICE void put(int row, int column, const Pack<kWide>& pack) {
      if constexpr (contiguous == Contiguous::depth) {
#pragma unroll
        for (int i = 0; i < kWide; ++i) values[column + i][row] = pack.values[i];
      } else {
#pragma unroll
        for (int i = 0; i < kWide; i += kPiece)
          *reinterpret_cast<uint4*>(&values[row][column + i]) = *reinterpret_cast<const uint4*>(&pack.values[i]);
      }
    }
  };

  Real sums[kThreadRows][kThreadColumns];

  LADDERSEG_DEVICE static int across() { return threadIdx.x % kAcross; }
  LADDERSEG_DEVICE static int down() { return threadIdx.x / kAcross; }
  LADDERSEG_DEVICE static int row(int i) {
    return i / kRowPiece * (kDown * kRowPiece) + down() * kRowPiece + i % kRowPiece;
  }
  LADDERSEG_DEVICE static int column(int j) {
    return j / kColumnPiece * (kAcross * kColumnPiece) + across() * kColumnPiece + j % kColumnPiece;
  }
  LADDERSEG_DEVICE static int group() { return down(); }

  template <int count, int piece>
  LADDERSEG_DEVICE static void read(const Real* from, int stride, Real (&to)[count]) {
#pragma unroll
    for (int i = 0; i < count; i += piece) {
      if constexpr (piece == kPiece) {
        const uint4 words = *reinterpret_cast<const uint4*>(from + i / piece * stride);
        const Pack<kPiece> pack = *reinterpret_cast<const Pack<kPiece>*>(&words);
#pragma unroll
        for (int k = 0; k < piece; ++k) to[i + k] = pack.values[k];
      } else {
#pragma unroll
        for (int k = 0; k < piece; ++k) to[i + k] = from[i / piece * stride + k];
      }
    }
  }

  // The result as `sums`, for the threads' `row`s and `column`s.
  LADDERSEG_DEVICE void finish() {}

  LADDERSEG_DEVICE void clear() {
#pragma unroll
    for (int i = 0; i < kThreadRows; ++i)
#pragma unroll
      for (int j = 0; j < kThreadColumns; ++j) sums[i][j] = Real(0);
  }

  template <class Left, class Right>
  LADDERSEG_DEVICE void multiply(const Left& left, const Right& right) {
// Not all: more values on their way than registers.
#pragma unroll 2
    for (int k = 0; k < kDepth; ++k) {
      Real a[kThreadRows], b[kThreadColumns];
      read<kThreadRows, kRowPiece>(&left.values[k][down() * kRowPiece], kDown * kRowPiece, a);
      read<kThreadColumns, kColumnPiece>(&right.values[k][across() * kColumnPiece], kAcross * kColumnPiece, b);
#pragma unroll
      for (int i = 0; i < kThreadRows; ++i)
#pragma unroll
        for (int j = 0; j < kThreadColumns; ++j) sums[i][j] += a[i] * b[j];
    }
  }

  // The sum of a thread's `value`s over all rows is that over the groups.
  LADDERSEG_DEVICE static Real sum_in_group(Real value) { return value; }
  LADDERSEG_DEVICE static bool leads_group() { return true; }
};

}  // namespace ladderseg::cuda
