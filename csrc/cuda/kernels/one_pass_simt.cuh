// The backward pass over one tile after the other on the ordinary arithmetic units: for every architecture and type.
//
// 256 threads, 16 x 16, compute g [pixels, columns] and grad_weight [gradients, columns]; a thread has the same columns
// of both, and a warp is 8 threads wide and 4 high, which reads 128 bytes of either factor's row at the most. The
// gradient lies with its channels contiguous, so 16 bytes are four steps of the first product's sum, or four rows of
// the second product (two of doubles). The weight comes in slices: all of it would not fit beside the gradient.
#pragma once

#include "one_pass.cuh"
#include "product.cuh"

namespace ladderseg::cuda {

struct SimtPass {
  static constexpr int kPiece = 16 / sizeof(Real);
  static constexpr int kSide = 16;  // threads across, and down
  static constexpr int kColumns = one_pass_columns(sizeof(Element), false);
  static constexpr int kPixels = one_pass_pixels(sizeof(Element), false);
  static constexpr int kThreadPixels = kPixels / kSide;
  static constexpr int kThreadRows = kOnePassGradients / kSide;
  static constexpr int kSlice = 16;                         // rows of the weight
  static constexpr int kRowsOfY = 2 * kSide;                // pixels of y that are multiplied at a time
  static constexpr int kGroups = kProductThreads / 32 / 2;  // of warps that share columns
  static_assert(kColumns == kSide * kPiece, "a thread has one piece of the columns");

  // A chunk of elements as Reals. Where they fill two pieces or more, every other four threads begin with the second:
  // the pieces of eight threads then lie in different banks.
  LADDERSEG_DEVICE static void put(Real* to, const Pack<kWide>& pack) {
    if constexpr (kWide == kPiece) {
      write(to, pack.values);
    } else {
      const bool second = product_thread() / 4 % 2;
      Pack<kPiece> pieces[2];
#pragma unroll
      for (int k = 0; k < kPiece; ++k) {
        pieces[0].values[k] = second ? pack.values[kPiece + k] : pack.values[k];
        pieces[1].values[k] = second ? pack.values[k] : pack.values[kPiece + k];
      }
      write(to + (second ? kPiece : 0), pieces[0].values);
      write(to + (second ? 0 : kPiece), pieces[1].values);
    }
  }
  LADDERSEG_DEVICE static void write(Real* to, const Real* from) {
    *reinterpret_cast<uint4*>(to) = *reinterpret_cast<const uint4*>(from);
  }
  LADDERSEG_DEVICE static Pack<kPiece> read(const Real* from) {
    const uint4 words = *reinterpret_cast<const uint4*>(from);
    return *reinterpret_cast<const Pack<kPiece>*>(&words);
  }

  using Stored = Pack<kWide>;
  template <int count>
  LADDERSEG_DEVICE static void set(Stored& stored, int first, const Pack<count>& piece) {
#pragma unroll
    for (int i = 0; i < count; ++i) stored.values[first + i] = piece.values[i];
  }

  struct GradientTile {
    static constexpr int kStride = kOnePassGradients + kPiece;  // padded: neighbouring pixels in other banks
    alignas(16) Real values[kPixels][kStride];
    LADDERSEG_DEVICE void put(int row, int column, const Pack<kWide>& pack) {
      SimtPass::put(&values[row][column], pack);
    }
  };
  struct WeightSlice {
    alignas(16) Real values[kSlice][kColumns];
  };
  struct Memory {
    GradientTile gradient;
    union {
      WeightSlice weight[2];  // one is computed with while the next is filled
      alignas(16) Real y[kRowsOfY][kColumns];
    };
    BlockSums<kGroups, kColumns> sums;
    BlockVectors<kColumns> vectors;
  };

  LADDERSEG_DEVICE int warp() const { return thread / 32; }
  LADDERSEG_DEVICE int lane() const { return thread % 32; }
  LADDERSEG_DEVICE int column() const { return (warp() % 2 * 8 + lane() % 8) * kPiece; }
  LADDERSEG_DEVICE int down() const { return warp() / 2 * 4 + lane() / 8; }
  LADDERSEG_DEVICE int pixel(int i) const { return i * kSide + down(); }
  LADDERSEG_DEVICE int row(int i) const { return i / kPiece * (kSide * kPiece) + down() * kPiece + i % kPiece; }

  int thread = thread_again();
  Real grad_weight[kThreadRows][kPiece];
  Real g[kThreadPixels][kPiece];
  ChannelSums<kPiece> sums;

  LADDERSEG_DEVICE SimtPass() {
#pragma unroll
    for (int i = 0; i < kThreadRows; ++i)
#pragma unroll
      for (int j = 0; j < kPiece; ++j) grad_weight[i][j] = Real(0);
  }

  // A thread's chunks of the slices of the weight, if it has some, on their way to shared memory.
  template <bool wide>
  struct SliceChunk {
    static constexpr int kAcross = kColumns / kWide;
    static constexpr bool kAll = kSlice * kAcross == kProductThreads;  // threads have one

    const Element* from;  // the next
    int step;             // to the one after it
    int rows, left;       // of the weight, from there on
    Chunk chunk;

    LADDERSEG_DEVICE SliceChunk(const Matrix<wide>& weight, int column, int thread)
        : from(weight.address(thread / kAcross, column + thread % kAcross * kWide)), step(kSlice * weight.columns) {
      left = weight.columns - column - thread % kAcross * kWide;
      rows = left > 0 && (kAll || thread < kSlice * kAcross) ? weight.rows - thread / kAcross : 0;
    }
    LADDERSEG_DEVICE void fetch() {
      chunk = {};
      if (rows > 0) chunk = fetch_chunk<wide>(from, left);
      rows -= kSlice;
      from += step;
    }
    LADDERSEG_DEVICE void put(WeightSlice& slice, int thread) const {
      if (kAll || thread < kSlice * kAcross)
        SimtPass::put(&slice.values[thread / kAcross][thread % kAcross * kWide], unpack(chunk));
    }
  };

  // Writes the gradient's tile to memory that no thread reads now; the block must be synchronised before it is used.
  template <bool wide>
  LADDERSEG_DEVICE static void bring(GradientChunks<wide>& gradient, Memory& memory) {
    using Chunks = GradientChunks<wide>;
    constexpr int kCount = kPixels / Chunks::kDown, kAtOnce = 2;
    static_assert(kCount % kAtOnce == 0, "whole rounds");
#pragma unroll 1
    for (int i = 0; i < kCount; i += kAtOnce) {
      typename Chunks::Raw raw[kAtOnce];
      gradient.fetch(raw);
      gradient.template put<SimtPass>(raw, memory.vectors, [&](int k, Pack<kWide> pack, bool there) {
#pragma unroll
        for (Real& value : pack.values) value = there ? value : Real(0);
        memory.gradient.put(Chunks::first_row() + (i + k) * Chunks::kDown, Chunks::first_column(), pack);
      });
    }
  }

  // g = gradient * weight, from `column` on. Leaves the block synchronised.
  template <bool wide>
  LADDERSEG_DEVICE void multiply_by_weight(const Matrix<wide>& weight, int column, Memory& memory) {
#pragma unroll
    for (int i = 0; i < kThreadPixels; ++i)
#pragma unroll
      for (int j = 0; j < kPiece; ++j) g[i][j] = Real(0);
    SliceChunk<wide> next(weight, column, thread);
    keep(next.step);
    next.fetch();
    next.put(memory.weight[0], thread);
    __syncthreads();
    const Real* left = &memory.gradient.values[pixel(0)][0];
    const Real* const right = &memory.weight[0].values[0][this->column()];
    int now = 0;
#pragma unroll 1
    for (int m = 0; m < weight.rows; m += kSlice) {
      next.fetch();
      multiply_slice(left, right + now * static_cast<int>(sizeof(WeightSlice) / sizeof(Real)));
      left += kSlice;
      now ^= 1;
      next.put(memory.weight[now], thread);
      __syncthreads();
    }
  }

  // Reads from the first of this thread's pixels and of its columns.
  LADDERSEG_DEVICE void multiply_slice(const Real* left, const Real* right) {
#pragma unroll
    for (int k = 0; k < kSlice; k += kPiece) {
      Pack<kPiece> a[kThreadPixels];
#pragma unroll
      for (int i = 0; i < kThreadPixels; ++i) a[i] = read(left + i * kSide * GradientTile::kStride + k);
#pragma unroll
      for (int step = 0; step < kPiece; ++step) {
        const Pack<kPiece> b = read(right + (k + step) * kColumns);
#pragma unroll
        for (int i = 0; i < kThreadPixels; ++i)
#pragma unroll
          for (int j = 0; j < kPiece; ++j) g[i][j] += a[i].values[step] * b.values[j];
      }
    }
  }

  // grad_weight += the gradient's pixels from `first` on, transposed, * y.
  LADDERSEG_DEVICE void multiply_by_y(int first, const Memory& memory) {
    const Real* left = &memory.gradient.values[first][row(0)];
    const Real* right = &memory.y[0][column()];
#pragma unroll 4
    for (int p = 0; p < kRowsOfY; ++p) {
      const Pack<kPiece> b = read(right);
#pragma unroll
      for (int i = 0; i < kThreadRows; i += kPiece) {
        const Pack<kPiece> a = read(left + row(i) - row(0));
#pragma unroll
        for (int k = 0; k < kPiece; ++k)
#pragma unroll
          for (int j = 0; j < kPiece; ++j) grad_weight[i + k][j] += a.values[k] * b.values[j];
      }
      left += GradientTile::kStride;
      right += kColumns;
    }
  }

  // Where this thread reads the input and writes its gradient: at its next pixel.
  struct Maps {
    const Element* input;
    Element* grad_input;

    LADDERSEG_DEVICE void move(const BackwardArguments& args) {
      input += kSide * args.input.pixel_stride;
      grad_input += kSide * args.grad_input.pixel_stride;
    }
  };

  // The i-th of this thread's pixels, if it is `there`; `left` channels exist from this thread's first on. Writes
  // grad_input and y.
  LADDERSEG_DEVICE void pass_pixel(const BackwardArguments& args, const Maps& maps, bool there, int left, int i,
                                   const ChannelNorm<kPiece>& norm, Memory& memory) {
    Real y[kPiece] = {};
    if (there && left > 0) {
      Real x[kPiece], result[kPiece] = {};
      load_piece(maps.input, left, args.wide_input, x);
      if (args.accumulate) load_piece(maps.grad_input, left, args.wide_input, result);
      pass(norm, x, g[i], result, y, sums);
      if (args.grad_input.data) store_piece(maps.grad_input, left, args.wide_input, result);
    }
    write(&memory.y[pixel(i) % kRowsOfY][column()], y);
  }

  // With `wide`, the rows of grad_output and weight are whole chunks of 16 bytes.
  template <bool wide>
  LADDERSEG_DEVICE void walk(const BackwardArguments& args, Memory& memory) {
    const Share share = Share::of(args, kColumns);
    const int rows = static_cast<int>(args.grad_output.grad.c), columns = static_cast<int>(args.input.c);
    const Matrix<wide> weight{args.weight, rows, columns};
    memory.vectors.bring(args, share.column);
    __syncthreads();
    GradientChunks<wide> gradient(Corrected<wide>{share.grad_output, share.pixels, rows});
    Maps maps;
    maps.input = share.input.pixel(pixel(0)) + share.column + column();
    maps.grad_input = share.grad_input.pixel(pixel(0)) + share.column + column();
#pragma unroll 1
    for (int p = 0; p < share.pixels; p += kPixels) {
      thread = thread_again();
      bring(gradient, memory);
      multiply_by_weight(weight, share.column, memory);
      const int left = columns - share.column - column();
      const auto norm = memory.vectors.template norm_of<kPiece>(column());
#pragma unroll
      for (int i = 0; i < kThreadPixels; i += kRowsOfY / kSide) {
#pragma unroll
        for (int k = 0; k < kRowsOfY / kSide; ++k) {
          pass_pixel(args, maps, p + pixel(i + k) < share.pixels, left, i + k, norm, memory);
          maps.move(args);
        }
        __syncthreads();
        // Where a compiler would keep addresses, and spill others.
#if __CUDA_ARCH__ >= 1200
        thread = thread_again();
#elif __CUDA_ARCH__ >= 900
        if constexpr (sizeof(Element) == 2) thread = thread_again();
#endif
        multiply_by_y(i * kSide, memory);
        __syncthreads();
      }
    }
    finish(args, share, memory);
  }

  LADDERSEG_DEVICE void finish(const BackwardArguments& args, const Share& share, Memory& memory) const {
    const int rows = static_cast<int>(args.grad_output.grad.c), columns = static_cast<int>(args.input.c);
    Real* const partial = args.partial_weight + share.part * rows * columns + share.column;
#pragma unroll
    for (int j = 0; j < kPiece; ++j) {
      const Real masked = sum_over_lanes<8>(sums.masked[j]);
      const Real centred = sum_over_lanes<8>(sums.centred[j]);
      if (lane() < 8) {
        memory.sums.masked[warp() / 2][column() + j] = masked;
        memory.sums.centred[warp() / 2][column() + j] = centred;
      }
      if (share.column + column() + j >= columns) continue;
#pragma unroll
      for (int i = 0; i < kThreadRows; ++i)
        if (row(i) < rows) partial[static_cast<int64>(row(i)) * columns + column() + j] = grad_weight[i][j];
    }
    __syncthreads();
    memory.sums.write(args, share);
  }
};

}  // namespace ladderseg::cuda
