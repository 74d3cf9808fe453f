// A tile of a matrix product on tensor cores, by mma.sync: float16 from sm_75 on, bfloat16 and tf32 from sm_80 on.
//
//   result[i, j] = sum over depth of left[i, depth] * right[j, depth],   128 x kColumns by 8 warps
//
// Shared memory holds Elements in chunks of 16 bytes, in the order in which they lie in memory, with the chunks of a
// row permuted by the row's number so that neither writing rows nor reading columns of chunks meets a bank twice:
//
//   depth contiguous: a row is 64 bytes of an index's depth, chunk c of row r lies at c ^ (r / 2 % 4)
//   index contiguous: a row is all indices at one depth, chunk c of row r lies at c ^ (r % 8), or, for 32-bit elements,
//                     which are read one by one, at c ^ (2 * (r % 4)); where it is 64 bytes, as above
//
// Rounding: products of float16 and bfloat16 are exact in float32; tf32 keeps 10 bits of the mantissa, to the nearest.
#pragma once

#include "operand.cuh"
#include "product.h"

#if (defined(LADDERSEG_ELEMENT_float16) && __CUDA_ARCH__ >= 750) || \
    ((defined(LADDERSEG_ELEMENT_bfloat16) || defined(LADDERSEG_ELEMENT_float32)) && __CUDA_ARCH__ >= 800)
#define LADDERSEG_TENSOR_CORES 1

namespace ladderseg::cuda {

// To a multiprocessor. Without cp.async the weights need registers too, on their way.
constexpr int kTensorBlocks = __CUDA_ARCH__ >= 800 ? 2 : 1;

struct Registers4 {
  unsigned r[4];
};
struct Registers2 {
  unsigned r[2];
};

LADDERSEG_DEVICE unsigned shared_address(const void* pointer) {
  return static_cast<unsigned>(__cvta_generic_to_shared(pointer));
}

// A 16x16 (bytes: 16 x 32) block of 16-bit elements: four 8x8 matrices, whose rows lanes 0-7, 8-15, 16-23, 24-31 name.
LADDERSEG_DEVICE Registers4 load_matrices(unsigned row) {
  Registers4 result;
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(result.r[0]), "=r"(result.r[1]), "=r"(result.r[2]), "=r"(result.r[3])
               : "r"(row)
               : "memory");
  return result;
}
LADDERSEG_DEVICE Registers4 load_matrices_transposed(unsigned row) {
  Registers4 result;
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(result.r[0]), "=r"(result.r[1]), "=r"(result.r[2]), "=r"(result.r[3])
               : "r"(row)
               : "memory");
  return result;
}
LADDERSEG_DEVICE Registers4 load_matrices(const void* row) { return load_matrices(shared_address(row)); }
LADDERSEG_DEVICE Registers4 load_matrices_transposed(const void* row) {
  return load_matrices_transposed(shared_address(row));
}

// sums (16 x 8) += left (16 x kStep) * right (kStep x 8).
LADDERSEG_DEVICE void multiply_add(float (&sums)[4], const Registers4& a, const Registers2& b) {
#if defined(LADDERSEG_ELEMENT_float32)
  asm volatile(
      "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, "
      "%3};"
      : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
      : "r"(a.r[0]), "r"(a.r[1]), "r"(a.r[2]), "r"(a.r[3]), "r"(b.r[0]), "r"(b.r[1]));
#elif defined(LADDERSEG_ELEMENT_bfloat16)
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, "
      "%3};"
      : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
      : "r"(a.r[0]), "r"(a.r[1]), "r"(a.r[2]), "r"(a.r[3]), "r"(b.r[0]), "r"(b.r[1]));
#elif __CUDA_ARCH__ >= 800
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, "
      "%3};"
      : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
      : "r"(a.r[0]), "r"(a.r[1]), "r"(a.r[2]), "r"(a.r[3]), "r"(b.r[0]), "r"(b.r[1]));
#else  // Turing's instruction is half as deep
#pragma unroll
  for (int half = 0; half < 2; ++half)
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};"
                 : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
                 : "r"(a.r[2 * half]), "r"(a.r[2 * half + 1]), "r"(b.r[half]));
#endif
}

// x in the form that tensor cores take.
LADDERSEG_DEVICE Element factor(float x) {
#if defined(LADDERSEG_ELEMENT_float32)
  unsigned bits;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(x));
  return __uint_as_float(bits);
#else
  return to_element(x);
#endif
}

LADDERSEG_DEVICE Chunk encode(const Pack<kWide>& pack) {
  Chunk chunk;
#pragma unroll
  for (int i = 0; i < kWide; ++i) chunk.elements[i] = factor(pack.values[i]);
  return chunk;
}

template <int columns, int threads = kProductThreads>
struct TensorTile {
  static constexpr int kThreads = threads;
  static constexpr int kRows = product_rows(sizeof(Element), true);
  static constexpr int kColumns = columns;
  static constexpr int kDepth = product_depth(sizeof(Element), true);
  static constexpr bool kTransposes = false;
#if __CUDA_ARCH__ >= 800
  static constexpr bool kAsynchronous = sizeof(Element) == 2;  // tf32 is rounded on the way
#else
  static constexpr bool kAsynchronous = false;
#endif
  static constexpr int kStep = 32 / sizeof(Element);  // depth of one instruction

  // The warps of a block, and the part of the result that each computes.
  static constexpr int kWarpsAcross = columns / 32;
  static constexpr int kWarpsDown = kThreads / 32 / kWarpsAcross;
  static constexpr int kWarpRows = kRows / kWarpsDown;
  static constexpr int kWarpColumns = kColumns / kWarpsAcross;
  static constexpr int kDownTiles = kWarpRows / 16;
  static constexpr int kAcrossTiles = kWarpColumns / 8;
  static constexpr int kThreadRows = 2 * kDownTiles;
  static constexpr int kThreadColumns = 2 * kAcrossTiles;
  static constexpr int kColumnPiece = 8;
  static_assert(kAcrossTiles == 4, "finish() exchanges four tiles between four lanes");
  static constexpr int kGroups = kWarpsDown;

  template <Contiguous contiguous, int kIndices>
  struct Side {
    static constexpr int kChunks = (contiguous == Contiguous::depth ? kDepth : kIndices) / kWide;
    static constexpr int kSideRows = contiguous == Contiguous::depth ? kIndices : kDepth;
    Chunk chunks[kSideRows][kChunks];

    LADDERSEG_DEVICE static int permuted(int row, int chunk) {
      if constexpr (kChunks == 4) return chunk ^ (row / 2 % 4);
      return chunk ^ (sizeof(Element) == 4 ? 2 * (row % 4) : row % 8);
    }
    LADDERSEG_DEVICE const Chunk* chunk(int row, int number) const { return &chunks[row][permuted(row, number)]; }
    LADDERSEG_DEVICE Chunk* chunk(int row, int number) { return &chunks[row][permuted(row, number)]; }
    LADDERSEG_DEVICE void put(int row, int column, const Pack<kWide>& pack) {
      chunk(row, column / kWide)->words = encode(pack).words;
    }

    LADDERSEG_DEVICE unsigned word(int index, int depth) const {
      const int row = contiguous == Contiguous::depth ? index : depth;
      const int column = contiguous == Contiguous::depth ? depth : index;
      return reinterpret_cast<const unsigned*>(chunk(row, column / kWide))[column % kWide];
    }

    // The 16 x kStep block at (index, depth) as the left factor: by index first, then by depth, in halves.
    LADDERSEG_DEVICE Registers4 left(int index, int depth) const {
      const int lane = threadIdx.x % 32;
      if constexpr (sizeof(Element) == 4) {
        const int i = index + lane / 4, k = depth + lane % 4;
        return {{word(i, k), word(i + 8, k), word(i, k + 4), word(i + 8, k + 4)}};
      } else if constexpr (contiguous == Contiguous::depth) {
        return load_matrices(chunk(index + lane % 16, depth / kWide + lane / 16));
      } else {
        return load_matrices_transposed(chunk(depth + lane % 8 + lane / 16 * 8, index / kWide + lane / 8 % 2));
      }
    }

    // The kStep x 16 block at (index, depth) as two right factors of 8 indices each.
    LADDERSEG_DEVICE void right(int index, int depth, Registers2& first, Registers2& second) const {
      const int lane = threadIdx.x % 32;
      if constexpr (sizeof(Element) == 4) {
        const int i = index + lane / 4, k = depth + lane % 4;
        first = {{word(i, k), word(i, k + 4)}};
        second = {{word(i + 8, k), word(i + 8, k + 4)}};
      } else {
        Registers4 all;
        if constexpr (contiguous == Contiguous::depth)
          all = load_matrices(chunk(index + lane % 8 + lane / 16 * 8, depth / kWide + lane / 8 % 2));
        else
          all = load_matrices_transposed(chunk(depth + lane % 16, index / kWide + lane / 16));
        first = {{all.r[0], all.r[1]}};
        second = {{all.r[2], all.r[3]}};
      }
    }
  };

  // As the instructions leave them, sums[i][2j..2j+1] are two neighbouring columns of tile j. After finish() they are
  // eight neighbouring columns, for accesses of 16 bytes.
  float sums[kThreadRows][kThreadColumns];

  LADDERSEG_DEVICE static int warp_row() { return static_cast<int>(threadIdx.x) / 32 / kWarpsAcross * kWarpRows; }
  LADDERSEG_DEVICE static int warp_column() { return static_cast<int>(threadIdx.x) / 32 % kWarpsAcross * kWarpColumns; }
  LADDERSEG_DEVICE static int row(int i) { return warp_row() + i * 8 + static_cast<int>(threadIdx.x) % 32 / 4; }
  LADDERSEG_DEVICE static int column(int j) { return warp_column() + static_cast<int>(threadIdx.x) % 4 * 8 + j; }
  LADDERSEG_DEVICE static int group() { return static_cast<int>(threadIdx.x) / 32 / kWarpsAcross; }

  // Lane q of four gives its part of tile t to lane t and takes its tile q: a transposition, one bit of q at a time.
  LADDERSEG_DEVICE void finish() {
#pragma unroll
    for (int bit = 1; bit <= 2; bit *= 2) {
      const bool upper = threadIdx.x & bit;
#pragma unroll
      for (int i = 0; i < kThreadRows; ++i)
#pragma unroll
        for (int tile = 0; tile < 4; ++tile) {
          if (tile & bit) continue;
#pragma unroll
          for (int k = 0; k < 2; ++k) {
            float& low = sums[i][2 * tile + k];
            float& high = sums[i][2 * (tile + bit) + k];
            const float received = __shfl_xor_sync(0xffffffffu, upper ? low : high, bit);
            if (upper)
              low = received;
            else
              high = received;
          }
        }
    }
  }

  LADDERSEG_DEVICE void clear() {
#pragma unroll
    for (int i = 0; i < kThreadRows; ++i)
#pragma unroll
      for (int j = 0; j < kThreadColumns; ++j) sums[i][j] = 0.0f;
  }

  // Adds a step's products to the sums of the warp's 16 rows from 16 * i on.
  LADDERSEG_DEVICE void add_step(int i, const Registers4& left, const Registers2 (&right)[kAcrossTiles]) {
#pragma unroll
    for (int j = 0; j < kAcrossTiles; ++j) {
      float part[4] = {sums[2 * i][2 * j], sums[2 * i][2 * j + 1], sums[2 * i + 1][2 * j], sums[2 * i + 1][2 * j + 1]};
      multiply_add(part, left, right[j]);
      sums[2 * i][2 * j] = part[0];
      sums[2 * i][2 * j + 1] = part[1];
      sums[2 * i + 1][2 * j] = part[2];
      sums[2 * i + 1][2 * j + 1] = part[3];
    }
  }

  template <class Left, class Right>
  LADDERSEG_DEVICE void multiply(const Left& left, const Right& right) {
#pragma unroll
    for (int k = 0; k < kDepth; k += kStep) {
      Registers2 b[kAcrossTiles];
#pragma unroll
      for (int j = 0; j < kAcrossTiles; j += 2) right.right(warp_column() + 8 * j, k, b[j], b[j + 1]);
#pragma unroll
      for (int i = 0; i < kDownTiles; ++i) add_step(i, left.left(warp_row() + 16 * i, k), b);
    }
  }

  // Over the eight lanes of a warp that share columns; the result is that of the lanes that lead.
  LADDERSEG_DEVICE static float sum_in_group(float value) {
#pragma unroll
    for (int lanes = 4; lanes < 32; lanes *= 2) value += __shfl_xor_sync(0xffffffffu, value, lanes);
    return value;
  }
  LADDERSEG_DEVICE static bool leads_group() { return threadIdx.x % 32 < 4; }
};

}  // namespace ladderseg::cuda
#endif
