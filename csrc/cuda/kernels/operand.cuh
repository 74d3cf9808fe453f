// One side of a product's tile: kIndices x kDepth values on their way from a source to shared memory.
//
// The matrix lies in memory with either the depth (the dimension that is summed over) or the index (a row or column of
// the result) contiguous. A thread holds kCount chunks of 16 bytes of the next tile while the present one is computed.
#pragma once

#include "sources.cuh"

namespace ladderseg::cuda {

enum class Contiguous { depth, index };

template <Contiguous contiguous, int kIndices, int kDepth, int kThreads>
struct OperandShape {
  static constexpr int kColumns = contiguous == Contiguous::depth ? kDepth : kIndices;  // contiguous ones
  static constexpr int kRows = contiguous == Contiguous::depth ? kIndices : kDepth;
  static constexpr int kChunks = kColumns / kWide;  // in a row
  static constexpr int kCount = (kRows * kChunks + kThreads - 1) / kThreads;
  static constexpr bool kExact = kRows * kChunks % kThreads == 0;
};

// Copies 16 bytes from global to shared memory, zeros if they are not `inside`; complete after wait_for_copies.
LADDERSEG_DEVICE void copy_asynchronously(Chunk* to, const Element* from, bool inside) {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
               :
               : "r"(static_cast<unsigned>(__cvta_generic_to_shared(to))), "l"(from), "r"(inside ? 16 : 0)
               : "memory");
#endif
}

// Waits for the copies of this thread.
LADDERSEG_DEVICE void wait_for_copies() {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.wait_all;" : : : "memory");
#endif
}

template <class Source, Contiguous contiguous, class Tile, int kIndices>
struct Operand {
  using Shape = OperandShape<contiguous, kIndices, Tile::kDepth, Tile::kThreads>;
  // Weights are copied by the hardware, past the registers, where it can (cp.async).
  static constexpr bool kAsynchronous = Source::kPlain && Tile::kAsynchronous;

  typename Source::Raw raw[Shape::kCount];

  struct Place {
    int row, column;  // in the tile
    bool there;
  };

  LADDERSEG_DEVICE static Place place(int i) {
    const int number = static_cast<int>(threadIdx.x) + i * Tile::kThreads;
    const bool there = Shape::kExact || number < Shape::kRows * Shape::kChunks;
    // Along a row, so that a warp reads whole sectors. But values of 16 bits that are stored one by one, transposed,
    // would meet the same banks then: they go down the rows.
    if (Tile::kTransposes && contiguous == Contiguous::depth && sizeof(Element) == 2)
      return {number % Shape::kRows, number / Shape::kRows * kWide, there};
    return {number / Shape::kChunks, number % Shape::kChunks * kWide, there};
  }

  // Starts to load the tile at (index, depth) into `shared`, which no thread reads now.
  template <class Index, class Depth, class Shared>
  LADDERSEG_DEVICE void fetch(const Source& source, Index index, Depth depth, Shared& shared) {
    const int64 row = contiguous == Contiguous::depth ? static_cast<int64>(index) : static_cast<int64>(depth);
    const int column = static_cast<int>(contiguous == Contiguous::depth ? depth : index);
#pragma unroll
    for (int i = 0; i < Shape::kCount; ++i) {
      const Place at = place(i);
      if (!at.there) continue;
      if constexpr (kAsynchronous) {
        const bool inside = source.inside(row + at.row, column + at.column);
        copy_asynchronously(shared.chunk(at.row, at.column / kWide),
                            inside ? source.address(row + at.row, column + at.column) : source.data, inside);
      } else {
        raw[i] = source.fetch(row + at.row, column + at.column);
      }
    }
  }

  // Completes the load; the block must be synchronised before a thread reads the tile.
  template <class Index, class Depth, class Shared>
  LADDERSEG_DEVICE void commit(const Source& source, Index index, Depth depth, Shared& shared) const {
    if constexpr (kAsynchronous) {
      wait_for_copies();
      return;
    }
    const int64 row = contiguous == Contiguous::depth ? static_cast<int64>(index) : static_cast<int64>(depth);
    const int column = static_cast<int>(contiguous == Contiguous::depth ? depth : index);
#pragma unroll
    for (int i = 0; i < Shape::kCount; ++i) {
      const Place at = place(i);
      if (at.there) shared.put(at.row, at.column, source.values(raw[i], row + at.row, column + at.column));
    }
  }
};

}  // namespace ladderseg::cuda
