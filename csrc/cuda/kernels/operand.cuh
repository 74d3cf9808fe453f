// One side of a product's tiles of kIndices x Tile::kDepth values, which follow each other in the order of depth: on
// their way from a source to shared memory.
//
// The matrix lies in memory with either the depth (the dimension that is summed over) or the index (a row or column of
// the result) contiguous. A thread holds kCount chunks of 16 bytes of the next tile while the present one is computed:
// all in the same columns, kRowStep rows apart. Where they lie is carried along: computed anew for every tile, it would
// take as many instructions as the product.
#pragma once

#include "sources.cuh"
#include "threads.cuh"

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
LADDERSEG_DEVICE void copy_asynchronously(unsigned to, const Element* from, bool inside) {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" : : "r"(to), "l"(from), "r"(inside ? 16 : 0) : "memory");
#endif
}
LADDERSEG_DEVICE void copy_asynchronously(Chunk* to, const Element* from, bool inside) {
  copy_asynchronously(static_cast<unsigned>(__cvta_generic_to_shared(to)), from, inside);
}

// Waits for the copies of this thread.
LADDERSEG_DEVICE void wait_for_copies() {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.wait_all;" : : : "memory");
#endif
}

template <class Source, Contiguous contiguous, class Tile, int kIndices>
class Operand {
 public:
  using Side = typename Tile::template Side<contiguous, kIndices>;

  // From depth 0 on, into either of `sides`.
  LADDERSEG_DEVICE Operand(const Source& source, int index, Side (&sides)[2]) : source_(source) {
    const int number = product_thread();
    // Along a row, so that a warp reads whole sectors. But values of 16 bits that are stored one by one, transposed,
    // would meet the same banks then: they go down the rows.
    constexpr bool kDown = Tile::kTransposes && contiguous == Contiguous::depth && sizeof(Element) == 2;
    static_assert(!kDown || Shape::kCount == 1, "a thread's chunks are in the same columns");
    row_ = kDown ? number % Shape::kRows : number / Shape::kChunks;
    column_ = (kDown ? number / Shape::kRows : number % Shape::kChunks) * kWide;
    there_ = Shape::kExact || number < Shape::kRows * Shape::kChunks;
    to_ = sides[0].place(row_, column_);
    if (contiguous == Contiguous::depth)
      row_ += index;
    else
      column_ += index;
    cursor_ = source.cursor(row_, column_);
    keep(row_);
    keep(column_);
  }

  // Starts to load the next tile into side `side`, which no thread reads now.
  LADDERSEG_DEVICE void fetch(int side) {
#pragma unroll
    for (int i = 0; i < Shape::kCount; ++i) {
      const auto at = source_.moved(cursor_, i * kRowStep, 0);
      if constexpr (!kAsynchronous)
        raw_[i] = has_chunk(i) && inside(i) ? source_.fetch(at, source_.columns - column_) : typename Source::Raw();
      else if (has_chunk(i))
        copy_asynchronously(Side::other(to_, side, i * kRowStep), inside(i) ? at : source_.data, inside(i));
    }
  }

  // Completes the load; the block must be synchronised before a thread reads the tile.
  LADDERSEG_DEVICE void commit(int side) {
    if constexpr (kAsynchronous) {
      wait_for_copies();
    } else {
#if __CUDA_ARCH__ >= 1000  // where the compiler would keep the addresses of the vectors, and spill others
      if (contiguous == Contiguous::index) keep(column_);
#endif
      typename Tile::Stored values[Shape::kCount];
#pragma unroll
      for (int k = 0; k < kWide; k += kVectorPiece) {
        const auto vectors = source_.vectors(column_ + k);
#pragma unroll
        for (int i = 0; i < Shape::kCount; ++i) Tile::set(values[i], k, source_.values(raw_[i], vectors, k));
      }
#pragma unroll
      for (int i = 0; i < Shape::kCount; ++i) {
        // Indices that do not exist make rows or columns of the result that do not exist, whatever their values are.
        const bool there = contiguous == Contiguous::depth || has_row(i);
        if (has_chunk(i)) Side::put(Side::other(to_, side, i * kRowStep), values[i], there);
      }
    }
    constexpr int kDepth = Tile::kDepth;
    constexpr int kDown = contiguous == Contiguous::depth ? 0 : kDepth, kAcross = kDepth - kDown;
    row_ += kDown;
    column_ += kAcross;
    cursor_ = source_.moved(cursor_, kDown, kAcross);
  }

 private:
  using Shape = OperandShape<contiguous, kIndices, Tile::kDepth, kProductThreads>;
  static constexpr int kRowStep = kProductThreads / Shape::kChunks;
  static_assert(kProductThreads % Shape::kChunks == 0, "a thread's chunks are in the same columns");
  // Weights are copied by the hardware, past the registers, where it can (cp.async).
  static constexpr bool kAsynchronous = Source::kPlain && Tile::kAsynchronous;

  LADDERSEG_DEVICE bool has_row(int i) const { return row_ + i * kRowStep < source_.rows; }
  LADDERSEG_DEVICE bool inside(int i) const { return has_row(i) && column_ < source_.columns; }
  LADDERSEG_DEVICE bool has_chunk(int i) const { return Shape::kExact || (i == 0 && there_); }
  static_assert(Shape::kExact || Shape::kCount == 1, "whole rounds, or a part of one");

  const Source& source_;
  typename Source::Cursor cursor_;
  int row_, column_;  // of the thread's first chunk
  bool there_;        // whether it has one
  decltype(Side().place(0, 0)) to_;
  typename Source::Raw raw_[Shape::kCount];
};

}  // namespace ladderseg::cuda
