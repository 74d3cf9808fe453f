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

  // A chunk's values in the form in which they are stored, set piece by piece.
  using Stored = Pack<kWide>;
  template <int count>
  LADDERSEG_DEVICE static void set(Stored& stored, int first, const Pack<count>& piece) {
#pragma unroll
    for (int i = 0; i < count; ++i) stored.values[first + i] = piece.values[i];
  }

  template <Contiguous contiguous, int kIndices>
  struct Side {
    // With a depth contiguous, neighbouring threads store the two or four chunks of a row of depth, transposed. The
    // padding puts these half a round of the banks, or a quarter, apart.
    static constexpr int kPadding = contiguous == Contiguous::depth && sizeof(Element) > 2 ? kPiece : 0;
    static constexpr int kStride = kIndices + kPadding;
    alignas(16) Real values[kDepth][kStride];

    // The place of a chunk, and those of the chunk `rows` further down in the matrix, of the next side.
    LADDERSEG_DEVICE Real* place(int row, int column) {
      return contiguous == Contiguous::depth ? &values[column][row] : &values[row][column];
    }
    LADDERSEG_DEVICE static Real* other(Real* place, int sides, int rows) {
      return place + sides * static_cast<int>(sizeof(Side) / sizeof(Real)) +
             rows * (contiguous == Contiguous::depth ? 1 : kStride);
    }
    // Zeros unless the values are `there`.
    LADDERSEG_DEVICE static void put(Real* place, Stored pack, bool there) {
#pragma unroll
      for (int i = 0; i < kWide; ++i) pack.values[i] = there ? pack.values[i] : Real(0);
      if constexpr (contiguous == Contiguous::depth) {
#pragma unroll
        for (int i = 0; i < kWide; ++i) place[i * kStride] = pack.values[i];
      } else {
#pragma unroll
        for (int i = 0; i < kWide; i += kPiece)
          *reinterpret_cast<uint4*>(place + i) = *reinterpret_cast<const uint4*>(&pack.values[i]);
      }
    }
  };

  Real sums[kThreadRows][kThreadColumns];

  LADDERSEG_DEVICE static int across() { return product_thread() % kAcross; }
  LADDERSEG_DEVICE static int down() { return product_thread() / kAcross; }
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

  // Where a thread reads two sides.
  template <class Left, class Right>
  struct Reader {
    const Left* left;
    const Right* right;
  };
  template <class Left, class Right>
  LADDERSEG_DEVICE static Reader<Left, Right> reader(const Left (&left)[2], const Right (&right)[2]) {
    return {left, right};
  }
  // Multiplies the sides of number `side`.
  template <class Left, class Right>
  LADDERSEG_DEVICE void multiply(const Reader<Left, Right>& reader, int side) {
    multiply(reader.left[side], reader.right[side]);
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
    const Real* from_left = &left.values[0][down() * kRowPiece];
    const Real* from_right = &right.values[0][across() * kColumnPiece];
// Not all: more values on their way than registers.
#pragma unroll 2
    for (int k = 0; k < kDepth; ++k) {
      Real a[kThreadRows], b[kThreadColumns];
      read<kThreadRows, kRowPiece>(from_left, kDown * kRowPiece, a);
      read<kThreadColumns, kColumnPiece>(from_right, kAcross * kColumnPiece, b);
      from_left += Left::kStride;
      from_right += Right::kStride;
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
