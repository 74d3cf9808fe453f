// The product of two sources, tile by tile, which the kernels of the convolutions share.
#pragma once

#include "product_simt.cuh"
#include "product_tensor.cuh"

namespace ladderseg::cuda {

constexpr int kSimtColumns = product_columns(sizeof(Element), false);
constexpr int kTensorColumns = product_columns(sizeof(Element), true);

template <class Tile, Contiguous left, Contiguous right>
struct ProductMemory {
  // Two of each: one is computed with while the next is filled.
  typename Tile::template Side<left, Tile::kRows> left_side[2];
  typename Tile::template Side<right, Tile::kColumns> right_side[2];
};

// tile.sums = the result at (row, column), summed over depths [0, depth).
template <Contiguous left_contiguous, Contiguous right_contiguous, class Tile, class Left, class Right>
LADDERSEG_DEVICE void multiply(Tile& tile, const Left& left, const Right& right, int row, int column, int depth,
                               ProductMemory<Tile, left_contiguous, right_contiguous>& memory) {
  Operand<Left, left_contiguous, Tile, Tile::kRows> left_operand(left, row, memory.left_side);
  Operand<Right, right_contiguous, Tile, Tile::kColumns> right_operand(right, column, memory.right_side);
  const auto reader = tile.reader(memory.left_side, memory.right_side);
  tile.clear();
  int now = 0;
  left_operand.fetch(0);
  right_operand.fetch(0);
  left_operand.commit(0);
  right_operand.commit(0);
  __syncthreads();
#pragma unroll 1
  for (int done = 0; done < depth; done += Tile::kDepth) {
    const bool more = done + Tile::kDepth < depth;
    if (more) {
      left_operand.fetch(now ^ 1);
      right_operand.fetch(now ^ 1);
    }
    tile.multiply(reader, now);
    if (more) {
      right_operand.commit(now ^ 1);
      left_operand.commit(now ^ 1);  // last, because it needs the most registers
    }
    __syncthreads();
    now ^= 1;
  }
  tile.finish();
}

// Sums over the rows of a tile.
template <class Tile>
struct ColumnSums {
  alignas(16) Real parts[Tile::kGroups][Tile::kColumns];

  // Each thread passes the sums over its rows; all threads of the block call it together, and are then synchronised.
  LADDERSEG_DEVICE void add_up(const Real (&values)[Tile::kThreadColumns]) {
    constexpr int kPiece = 16 / sizeof(Real);
#pragma unroll
    for (int j = 0; j < Tile::kThreadColumns; j += kPiece) {
      Pack<kPiece> pack;
#pragma unroll
      for (int k = 0; k < kPiece; ++k) pack.values[k] = Tile::sum_in_group(values[j + k]);
      if (Tile::leads_group()) write(&parts[Tile::group()][Tile::column(j)], pack);
    }
    __syncthreads();
  }

  LADDERSEG_DEVICE Real total(int column) const {
    Real sum = parts[0][column];
#pragma unroll
    for (int i = 1; i < Tile::kGroups; ++i) sum += parts[i][column];
    return sum;
  }

  template <int count>
  LADDERSEG_DEVICE static void write(Real* to, const Pack<count>& pack) {
    if constexpr (sizeof(Real) == 4)
      *reinterpret_cast<float4*>(to) = make_float4(pack.values[0], pack.values[1], pack.values[2], pack.values[3]);
    else
      *reinterpret_cast<double2*>(to) = make_double2(pack.values[0], pack.values[1]);
  }
};

// Neighbouring channels of a pixel, a thread's piece of a tile's row. `count` of them exist; with `wide`, all do.
template <int piece>
LADDERSEG_DEVICE void load_piece(const Element* from, int count, bool wide, Real (&to)[piece]) {
  if (wide && count >= piece) {
    if constexpr (piece * sizeof(Element) >= 16) {
#pragma unroll
      for (int i = 0; i < piece; i += kWide) {
        const Pack<kWide> pack = load<kWide>(from + i);
#pragma unroll
        for (int k = 0; k < kWide; ++k) to[i + k] = pack.values[k];
      }
    } else {
      Elements<piece, uint2> both;
      both.words = *reinterpret_cast<const uint2*>(from);
      const Pack<piece> pack = unpack(both);
#pragma unroll
      for (int i = 0; i < piece; ++i) to[i] = pack.values[i];
    }
  } else {
#pragma unroll
    for (int i = 0; i < piece; ++i) to[i] = i < count ? to_real(from[i]) : Real(0);
  }
}

template <int piece>
LADDERSEG_DEVICE void store_piece(Element* to, int count, bool wide, const Real (&from)[piece]) {
  if (wide && count >= piece) {
    if constexpr (piece * sizeof(Element) >= 16) {
#pragma unroll
      for (int i = 0; i < piece; i += kWide) {
        Pack<kWide> pack;
#pragma unroll
        for (int k = 0; k < kWide; ++k) pack.values[k] = from[i + k];
        store<kWide>(to + i, pack);
      }
    } else {
      Pack<piece> pack;
#pragma unroll
      for (int i = 0; i < piece; ++i) pack.values[i] = from[i];
      *reinterpret_cast<uint2*>(to) = packed<uint2>(pack).words;
    }
  } else {
#pragma unroll
    for (int i = 0; i < piece; ++i)
      if (i < count) to[i] = to_element(from[i]);
  }
}

}  // namespace ladderseg::cuda

// Entry points of kernels that compute a product with tiles of `columns`. The kernel's file has their
// `work<Tile, wide>(args, memory)`, where `wide` says that the rows of both factors are whole chunks of 16 bytes, and
// the Memory<Tile> that it works in.
#define LADDERSEG_SIMT_KERNEL(name, Arguments, columns)                                                           \
  extern "C" __global__ void __launch_bounds__(kProductThreads, 2) LADDERSEG_KERNEL(name)(const Arguments args) { \
    using Tile = SimtTile<columns>;                                                                               \
    __shared__ Memory<Tile> memory;                                                                               \
    if (args.wide)                                                                                                \
      work<Tile, true>(args, memory);                                                                             \
    else                                                                                                          \
      work<Tile, false>(args, memory);                                                                            \
  }

// Only for wide rows.
#define LADDERSEG_WIDE_KERNEL(name, Arguments, Tile_, blocks)                                                          \
  extern "C" __global__ void __launch_bounds__(kProductThreads, blocks) LADDERSEG_KERNEL(name)(const Arguments args) { \
    using Tile = Tile_;                                                                                                \
    __shared__ Memory<Tile> memory;                                                                                    \
    work<Tile, true>(args, memory);                                                                                    \
  }
#if LADDERSEG_TENSOR_CORES
#define LADDERSEG_TENSOR_KERNEL(name, Arguments, columns) \
  LADDERSEG_WIDE_KERNEL(name, Arguments, TensorTile<columns>, kTensorBlocks)
#else
#define LADDERSEG_TENSOR_KERNEL(name, Arguments, columns)
#endif
