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

// A 16 x 16 block of 16-bit elements, or 16 x 8 of 32-bit ones: four matrices of 8 rows of 16 bytes, whose rows lanes
// 0-7, 8-15, 16-23, 24-31 name. A lane gets a word of each: word lane % 4 of row lane / 4.
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

LADDERSEG_DEVICE unsigned load_word(unsigned from) {
  unsigned word;
  asm volatile("ld.shared.u32 %0, [%1];" : "=r"(word) : "r"(from) : "memory");
  return word;
}
LADDERSEG_DEVICE void store_words(unsigned to, const uint2& words) {
  asm volatile("st.shared.v2.u32 [%0], {%1, %2};" : : "r"(to), "r"(words.x), "r"(words.y) : "memory");
}
// Stores `chunk`, or zeros unless it is `there`.
LADDERSEG_DEVICE void store_chunk(unsigned to, const Chunk& chunk, bool there) {
  asm volatile("st.shared.v4.u32 [%0], {%1, %2, %3, %4};"
               :
               : "r"(to), "r"(there ? chunk.word[0] : 0), "r"(there ? chunk.word[1] : 0),
                 "r"(there ? chunk.word[2] : 0), "r"(there ? chunk.word[3] : 0)
               : "memory");
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

// Values in the form that tensor cores take.
template <class Words = uint4, int width>
LADDERSEG_DEVICE Elements<width, Words> encode(const Pack<width>& pack) {
#if defined(LADDERSEG_ELEMENT_float32)
  Elements<width, Words> factors;
#pragma unroll
  for (int i = 0; i < width; ++i) {
#if __CUDA_ARCH__ >= 900  // in one instruction instead of three
    asm("cvt.rn.tf32.f32 %0, %1;" : "=r"(factors.word[i]) : "f"(pack.values[i]));
#else
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(factors.word[i]) : "f"(pack.values[i]));
#endif
  }
  return factors;
#else
  return packed<Words>(pack);
#endif
}

// Four values of a chunk, from the one of number `first` on.
LADDERSEG_DEVICE void set_piece(Chunk& chunk, int first, const Pack<4>& piece) {
#if defined(LADDERSEG_ELEMENT_float32)
  chunk = encode(piece);
#else
  const auto factors = encode<uint2>(piece);
  chunk.word[first / 2] = factors.word[0];
  chunk.word[first / 2 + 1] = factors.word[1];
#endif
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

  // A chunk's values in the form in which they are stored, set piece by piece.
  using Stored = Chunk;
  LADDERSEG_DEVICE static void set(Stored& stored, int first, const Pack<4>& piece) { set_piece(stored, first, piece); }

  template <Contiguous contiguous, int kIndices>
  struct Side {
    static constexpr int kChunks = (contiguous == Contiguous::depth ? kDepth : kIndices) / kWide;
    static constexpr int kSideRows = contiguous == Contiguous::depth ? kIndices : kDepth;
    static constexpr int kRowBytes = kChunks * sizeof(Chunk);
    // Matrices of 32-bit elements cannot be transposed on their way to registers.
    static constexpr bool kSingleWords = contiguous == Contiguous::index && sizeof(Element) == 4;
    alignas(128) Chunk chunks[kSideRows][kChunks];

    LADDERSEG_DEVICE static int permuted(int row, int chunk) {
      const unsigned r = row;
      if constexpr (kChunks == 4) return chunk ^ static_cast<int>(r / 2 % 4);
      return chunk ^ static_cast<int>(kSingleWords ? 2 * (r % 4) : r % 8);
    }
    LADDERSEG_DEVICE const Chunk* chunk(int row, int number) const { return &chunks[row][permuted(row, number)]; }
    LADDERSEG_DEVICE Chunk* chunk(int row, int number) { return &chunks[row][permuted(row, number)]; }

    // The address of a chunk, and those of the chunk `rows` further down, a multiple of 8, of the next side.
    LADDERSEG_DEVICE unsigned place(int row, int column) const {
      unsigned address = shared_address(chunk(row, column / kWide));
      keep(address);
      return address;
    }
    LADDERSEG_DEVICE static unsigned other(unsigned place, int sides, int rows) {
      return place + sides * static_cast<int>(sizeof(Side)) + rows * kRowBytes;
    }
    // Zeros unless the values are `there`.
    LADDERSEG_DEVICE static void put(unsigned place, const Stored& chunk, bool there) {
      store_chunk(place, chunk, there);
    }

    // Where this lane reads its part of the left factor at index `index` and depth 0, and of the right one.
    LADDERSEG_DEVICE unsigned left_place(int index) const {
      const int lane = product_thread() % 32;
      if constexpr (kSingleWords) return word_place(index);
      if constexpr (contiguous == Contiguous::depth) return shared_address(chunk(index + lane % 16, lane / 16));
      return shared_address(chunk(lane % 8 + lane / 16 * 8, index / kWide + lane / 8 % 2));
    }
    LADDERSEG_DEVICE unsigned right_place(int index) const {
      const int lane = product_thread() % 32;
      if constexpr (kSingleWords) return word_place(index);
      if constexpr (contiguous == Contiguous::depth)
        return shared_address(chunk(index + lane % 8 + lane / 16 * 8, lane / 8 % 2));
      return shared_address(chunk(lane % 16, index / kWide + lane / 16));
    }
    LADDERSEG_DEVICE unsigned word_place(int index) const {
      const int lane = product_thread() % 32, i = index + lane / 4;
      return shared_address(&chunk(lane % 4, i / kWide)->word[i % kWide]);
    }
    // The same lane's place in the block `index` and `depth` further on: multiples of 8 (or 4 of a depth in rows), of
    // which the warp's first index has no bits. The permutation is the same there.
    LADDERSEG_DEVICE static unsigned moved(unsigned place, int index, int depth) {
      constexpr int kChunk = sizeof(Chunk);
      if constexpr (contiguous == Contiguous::depth) return (place ^ depth / kWide * kChunk) + index * kRowBytes;
      return (place ^ index / kWide * kChunk) + depth * kRowBytes;
    }

    // A 16 x kStep block as the left factor: by index first, then by depth, in halves.
    LADDERSEG_DEVICE static Registers4 left(unsigned place) {
      if constexpr (kSingleWords)
        return {{load_word(place), load_word(moved(place, 8, 0)), load_word(moved(place, 0, 4)),
                 load_word(moved(place, 8, 4))}};
      if constexpr (contiguous == Contiguous::depth) return load_matrices(place);
      return load_matrices_transposed(place);
    }

    // A kStep x 16 block as two right factors of 8 indices each.
    LADDERSEG_DEVICE static void right(unsigned place, Registers2& first, Registers2& second) {
      if constexpr (kSingleWords) {
        first = {{load_word(place), load_word(moved(place, 0, 4))}};
        second = {{load_word(moved(place, 8, 0)), load_word(moved(place, 8, 4))}};
      } else {
        Registers4 all;
        if constexpr (contiguous == Contiguous::depth)
          all = load_matrices(place);
        else
          all = load_matrices_transposed(place);
        first = {{all.r[0], all.r[1]}};
        second = {{all.r[2], all.r[3]}};
      }
    }
  };

  // Where a thread reads two sides.
  template <class Left, class Right>
  struct Reader {
    unsigned left, right;
  };
  template <class Left, class Right>
  LADDERSEG_DEVICE static Reader<Left, Right> reader(const Left (&left)[2], const Right (&right)[2]) {
    Reader<Left, Right> reader{left[0].left_place(warp_row()), right[0].right_place(warp_column())};
    keep(reader.left);
    keep(reader.right);
    return reader;
  }

  // As the instructions leave them, sums[i][2j..2j+1] are two neighbouring columns of tile j. After finish() they are
  // eight neighbouring columns, for accesses of 16 bytes.
  float sums[kThreadRows][kThreadColumns];

  LADDERSEG_DEVICE static int warp_row() { return product_thread() / 32 / kWarpsAcross * kWarpRows; }
  LADDERSEG_DEVICE static int warp_column() { return product_thread() / 32 % kWarpsAcross * kWarpColumns; }
  LADDERSEG_DEVICE static int row(int i) { return warp_row() + i * 8 + product_thread() % 32 / 4; }
  LADDERSEG_DEVICE static int column(int j) { return warp_column() + product_thread() % 4 * 8 + j; }
  LADDERSEG_DEVICE static int group() { return product_thread() / 32 / kWarpsAcross; }

  // Lane q of four gives its part of tile t to lane t and takes its tile q: a transposition, one bit of q at a time.
  LADDERSEG_DEVICE void finish() {
#pragma unroll
    for (int bit = 1; bit <= 2; bit *= 2) {
      const bool upper = product_thread() & bit;
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

  // Multiplies the sides of number `side`.
  template <class Left, class Right>
  LADDERSEG_DEVICE void multiply(const Reader<Left, Right>& reader, int side) {
    const unsigned left = Left::other(reader.left, side, 0), right = Right::other(reader.right, side, 0);
#pragma unroll
    for (int k = 0; k < kDepth; k += kStep) {
      Registers2 b[kAcrossTiles];
#pragma unroll
      for (int j = 0; j < kAcrossTiles; j += 2) Right::right(Right::moved(right, 8 * j, k), b[j], b[j + 1]);
#pragma unroll
      for (int i = 0; i < kDownTiles; ++i) add_step(i, Left::left(Left::moved(left, 16 * i, k)), b);
    }
  }

  // Over the eight lanes of a warp that share columns; the result is that of the lanes that lead.
  LADDERSEG_DEVICE static float sum_in_group(float value) {
#pragma unroll
    for (int lanes = 4; lanes < 32; lanes *= 2) value += __shfl_xor_sync(0xffffffffu, value, lanes);
    return value;
  }
  LADDERSEG_DEVICE static bool leads_group() { return product_thread() % 32 < 4; }
};

}  // namespace ladderseg::cuda
#endif
