// The backward pass over one tile after the other on tensor cores: see product_tensor.cuh for types and rounding.
//
// 8 warps. For g [pixels, columns], a warp has 32 pixels and as many columns as are 32 bytes of a pixel in memory, a
// sector, and keeps its columns of the weight in registers for the whole walk. The instructions leave a thread the
// columns 2q and 2q + 1 of every eight; the weight's columns are permuted so that those are neighbours in memory. For
// grad_weight [gradients, columns], a warp has 32 x 32.
//
// The gradient's tile and that of y hold a pixel's channels in chunks of 16 bytes, chunk c of pixel p at c ^ order(p):
// eight pixels' chunks c lie in different banks (ldmatrix), and so do the chunks 2c and 2c + 1 of four (single words).
#pragma once

#include "one_pass.cuh"
#include "product_tensor.cuh"

#if LADDERSEG_TENSOR_CORES
namespace ladderseg::cuda {

// With `together` rows read by a lane, of four lanes side by side, it is the chunks of these lanes' rows.
template <int rows, int columns, int together = 1>
struct PermutedTile {
  alignas(128) Chunk chunks[rows][columns / kWide];

  LADDERSEG_DEVICE static int order(int row) { return row / together % 4 * 2 + row / 4 % 2; }
  LADDERSEG_DEVICE const Chunk* chunk(int row, int number) const { return &chunks[row][number ^ order(row)]; }
  LADDERSEG_DEVICE Chunk* chunk(int row, int number) { return &chunks[row][number ^ order(row)]; }
  LADDERSEG_DEVICE void put(int row, int column, const Pack<kWide>& pack) {
    chunk(row, column / kWide)->words = encode(pack).words;
  }
  LADDERSEG_DEVICE Element element(int row, int column) const {
    return chunk(row, column / kWide)->elements[column % kWide];
  }
  LADDERSEG_DEVICE unsigned place(int row, int number) const { return shared_address(chunk(row, number)); }

  // The place of a chunk, from that of one in the same row whose number has no bits of `chunks`.
  LADDERSEG_DEVICE static unsigned along(unsigned place, int chunks) {
    constexpr int kChunk = sizeof(Chunk), kOrders = 8;
    return (place ^ chunks % kOrders * kChunk) + chunks / kOrders * (kOrders * kChunk);
  }
  // From that of one `count` rows further up: a multiple of 8, or 4 for single words of rows that are multiples of 8.
  LADDERSEG_DEVICE static unsigned down(unsigned place, int count) {
    constexpr int kChunk = sizeof(Chunk);
    return (place ^ (count / 4 % 2 * kChunk)) + count * static_cast<int>(sizeof(Chunk[columns / kWide]));
  }

  // Where a lane reads the left factor of 16 rows from `row` on and the first step's columns; `left` is of the step
  // whose first chunk is `chunks`.
  LADDERSEG_DEVICE unsigned left_place(int lane, int row) const { return place(row + lane % 16, lane / 16); }
  LADDERSEG_DEVICE static Registers4 left(unsigned place, int chunks) { return load_matrices(along(place, chunks)); }

  // Likewise the left factor of 16 columns from `column` on and the first step's rows.
  LADDERSEG_DEVICE unsigned left_transposed_place(int lane, int column) const {
    if constexpr (sizeof(Element) == 4) return word_place(lane, column);
    return place(lane % 8 + lane / 16 * 8, column / kWide + lane / 8 % 2);
  }
  LADDERSEG_DEVICE static Registers4 left_transposed(unsigned place) {
    if constexpr (sizeof(Element) == 4) {
      const unsigned next = along(place, 8 / kWide);
      return {{load_word(place), load_word(next), load_word(down(place, 4)), load_word(down(next, 4))}};
    }
    return load_matrices_transposed(place);
  }

  // And the right factors of twice 8 columns from `column` on and the first step's rows.
  LADDERSEG_DEVICE unsigned right_place(int lane, int column) const {
    if constexpr (sizeof(Element) == 4) return word_place(lane, column);
    return place(lane % 16, column / kWide + lane / 16);
  }
  LADDERSEG_DEVICE static void right(unsigned place, Registers2& first, Registers2& second) {
    if constexpr (sizeof(Element) == 4) {
      const unsigned next = along(place, 8 / kWide);
      first = {{load_word(place), load_word(down(place, 4))}};
      second = {{load_word(next), load_word(down(next, 4))}};
    } else {
      const Registers4 all = load_matrices_transposed(place);
      first = {{all.r[0], all.r[1]}};
      second = {{all.r[2], all.r[3]}};
    }
  }

 private:
  LADDERSEG_DEVICE unsigned word_place(int lane, int column) const {
    const int c = column + lane / 4;
    return shared_address(&chunk(lane % 4, c / kWide)->word[c % kWide]);
  }
};

struct TensorPass {
  static constexpr int kColumns = one_pass_columns(sizeof(Element), true);
  static constexpr int kPixels = one_pass_pixels(sizeof(Element), true);
  static constexpr int kStep = 32 / sizeof(Element);  // depth of one instruction
  static constexpr int kSteps = kOnePassGradients / kStep;
  static constexpr int kWord = 4 / sizeof(Element);  // elements to a register
  static constexpr int kWarpColumns = 32 / sizeof(Element);
  static constexpr int kWarpsAcross = kColumns / kWarpColumns;
  static constexpr int kWarpsDown = kProductThreads / 32 / kWarpsAcross;
  static constexpr int kPiece = kWarpColumns / 4;  // neighbouring columns of a thread: 8 bytes
  static constexpr int kTiles = kWarpColumns / 8;  // results of an instruction, side by side
  static_assert(kPixels / kWarpsDown == 32, "32 pixels to a warp");

  using Gradients = PermutedTile<kPixels, kOnePassGradients>;
  using Rectifieds = PermutedTile<kPixels, kColumns>;

  struct Memory {
    // One is computed with while the next is filled.
    union {
      Gradients gradient[2];
      PermutedTile<kOnePassGradients, kColumns, kWord> weight;  // at first
    };
    Rectifieds y;
    BlockSums<kWarpsDown, kColumns> sums;
    BlockVectors<kColumns> vectors;
  };

  using Piece = Elements<kPiece, uint2>;
  using Stored = Chunk;
  LADDERSEG_DEVICE static void set(Stored& stored, int first, const Pack<4>& piece) { set_piece(stored, first, piece); }

  int thread = thread_again();
  Registers2 weight[kSteps][kTiles];
  float grad_weight[2][4][4];  // of 16 rows, of 8 columns
  ChannelSums<kPiece> sums;

  LADDERSEG_DEVICE int warp() const { return thread / 32; }
  LADDERSEG_DEVICE int lane() const { return thread % 32; }
  LADDERSEG_DEVICE int column() const { return warp() % kWarpsAcross * kWarpColumns + lane() % 4 * kPiece; }
  LADDERSEG_DEVICE int warp_pixel() const { return warp() / kWarpsAcross * 32; }
  LADDERSEG_DEVICE int weight_row() const { return warp() / 2 * 32; }
  LADDERSEG_DEVICE int weight_column() const { return warp() % 2 * 32; }

  LADDERSEG_DEVICE TensorPass() {
#pragma unroll
    for (int i = 0; i < 2; ++i)
#pragma unroll
      for (int j = 0; j < 4; ++j)
#pragma unroll
        for (int k = 0; k < 4; ++k) grad_weight[i][j][k] = 0.0f;
  }

  // This warp's columns of the weight, from `first_column` on; leaves the block synchronised.
  LADDERSEG_DEVICE void bring_weight(const BackwardArguments& args, int first_column, Memory& memory) {
    const Matrix<true> matrix{args.weight, static_cast<int>(args.grad_output.grad.c), static_cast<int>(args.input.c)};
    constexpr int kAcross = kColumns / kWide;
#pragma unroll 2
    for (int i = thread; i < kOnePassGradients * kAcross; i += kProductThreads) {
      const int m = i / kAcross, c = i % kAcross * kWide;
      memory.weight.put(m, c, unpack(matrix.fetch(m, first_column + c).chunk));
    }
    __syncthreads();
    const int n = lane() / 4;  // the column of an instruction; a thread's columns lie together in memory
    const int c = warp() % kWarpsAcross * kWarpColumns + n / 2 * kPiece + n % 2;
#pragma unroll
    for (int step = 0; step < kSteps; ++step)
#pragma unroll
      for (int tile = 0; tile < kTiles; ++tile)
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          union {
            unsigned word;
            Element elements[kWord];
          } both;
#pragma unroll
          for (int k = 0; k < kWord; ++k) {
            const int m = step * kStep + half * kStep / 2 + lane() % 4 * kWord + k;
            both.elements[k] = memory.weight.element(m, c + 2 * tile);
          }
          weight[step][tile].r[half] = both.word;
        }
    __syncthreads();
  }

  // g of 16 pixels, of tiles of 8 columns, from the place where this lane reads their gradient.
  LADDERSEG_DEVICE void multiply_by_weight(unsigned gradient, float (&g)[kTiles][4]) const {
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile)
#pragma unroll
      for (int k = 0; k < 4; ++k) g[tile][k] = 0.0f;
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      const Registers4 a = Gradients::left(gradient, step * kStep / kWide);
#pragma unroll
      for (int tile = 0; tile < kTiles; ++tile) multiply_add(g[tile], a, weight[step][tile]);
    }
  }

  // Where this thread reads the input and writes its gradient: at the first of its next pixels.
  struct Maps {
    const Element* input;
    Element* grad_input;

    LADDERSEG_DEVICE void move(const BackwardArguments& args, int pixels) {
      input += pixels * args.input.pixel_stride;
      grad_input += pixels * args.grad_input.pixel_stride;
    }
  };

  // 16 pixels, of which the part has `left` from this thread's first on: writes grad_input and y. The gradient's and
  // y's places are those where this lane reads and writes.
  LADDERSEG_DEVICE void pass_pixels(const BackwardArguments& args, const Maps& maps, int left, unsigned gradient,
                                    unsigned y_place, const BlockVectors<kColumns>& vectors) {
    Piece x[2] = {}, result[2] = {};
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      if (left <= 8 * half) continue;
      x[half].words = *reinterpret_cast<const uint2*>(maps.input + 8 * half * args.input.pixel_stride);
      if (args.accumulate)
        result[half].words = *reinterpret_cast<const uint2*>(maps.grad_input + 8 * half * args.grad_input.pixel_stride);
    }
    float g[kTiles][4];
    multiply_by_weight(gradient, g);
    thread = thread_again();
    const auto norm = vectors.template norm_of<kPiece>(column());
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      Piece factors = {};
      if (left > 8 * half) {
        Real of_g[kPiece];
#pragma unroll
        for (int k = 0; k < kPiece; ++k) of_g[k] = g[k / 2][2 * half + k % 2];
        Pack<kPiece> sum = unpack(result[half]), y;
        pass(norm, unpack(x[half]).values, of_g, sum.values, y.values, sums);
        factors = encode<uint2>(y);
        if (args.grad_input.data)
          *reinterpret_cast<uint2*>(maps.grad_input + 8 * half * args.grad_input.pixel_stride) =
              packed<uint2>(sum).words;
      }
      store_words(Rectifieds::down(y_place, 8 * half), factors.words);
    }
  }

  // grad_weight += a step's pixels of the gradient, transposed, * y, from the places where this lane reads them.
  LADDERSEG_DEVICE void multiply_by_y(unsigned gradient, unsigned y) {
    constexpr int kNext = 16 / kWide;  // chunks
    Registers2 b[4];
    Rectifieds::right(y, b[0], b[1]);
    Rectifieds::right(Rectifieds::along(y, kNext), b[2], b[3]);
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const Registers4 a = Gradients::left_transposed(Gradients::along(gradient, i * kNext));
#pragma unroll
      for (int j = 0; j < 4; ++j) multiply_add(grad_weight[i][j], a, b[j]);
    }
  }

  // The rows of all maps are whole chunks of 16 bytes, and the vectors are aligned so.
  LADDERSEG_DEVICE void walk(const BackwardArguments& args, Memory& memory) {
    using Chunks = GradientChunks<true>;
    const Share share = Share::of(args, kColumns);
    memory.vectors.bring(args, share.column);
    bring_weight(args, share.column, memory);
    const int rows = static_cast<int>(args.grad_output.grad.c);
    Chunks gradient(Corrected<true>{share.grad_output, share.pixels, rows});
    constexpr int kParts = kPixels / kStep;  // of a tile
    static_assert(Chunks::kDown == kStep, "a chunk per thread makes a part");
    // Where this thread puts its chunk of a part into the first of the tiles.
    unsigned to = memory.gradient[0].place(Chunks::first_row(), Chunks::first_column() / kWide);
    keep(to);
    const auto place = [&](int tile, int part) {
      return Gradients::down(to, part * kStep) + tile * static_cast<int>(sizeof(Gradients));
    };
    Maps maps;
    maps.input = share.input.pixel(warp_pixel() + lane() / 4) + share.column + column();
    maps.grad_input = share.grad_input.pixel(warp_pixel() + lane() / 4) + share.column + column();
    // The pixels from this thread's next one on, if it has columns.
    const bool there = share.column + column() < static_cast<int>(args.input.c);
    int left = there ? share.pixels - warp_pixel() - lane() / 4 : 0;
    // Where this lane reads the first of the gradient's tiles, and writes y, at its warp's first pixel.
    unsigned of_gradient = memory.gradient[0].left_place(lane(), warp_pixel());
    unsigned of_y = memory.y.place(warp_pixel() + lane() / 4, column() / kWide) +
                    column() % kWide * static_cast<int>(sizeof(Element));
    keep(of_gradient);
    keep(of_y);
    typename Chunks::Raw raw[1];
    int now = 0;
#pragma unroll 1
    for (int i = 0; i < kParts; ++i) {
      gradient.fetch(raw);
      gradient.put<TensorPass>(raw, memory.vectors,
                               [&](int, const Chunk& chunk, bool there) { store_chunk(place(0, i), chunk, there); });
    }
    __syncthreads();
#pragma unroll 1
    for (int p = 0; p < share.pixels; p += kPixels) {
      thread = thread_again();
#pragma unroll 1
      for (int i = 0; i < 2; ++i) {
        pass_pixels(args, maps, left, Gradients::down(of_gradient, 16 * i) + now * static_cast<int>(sizeof(Gradients)),
                    Rectifieds::down(of_y, 16 * i), memory.vectors);
        maps.move(args, 16);
        left -= 16;
      }
      left -= kPixels - 32;
      maps.move(args, kPixels - 32);
      __syncthreads();
      // A part of the next tile is on its way while a part of this one is multiplied: registers have no room for more.
      thread = thread_again();
      unsigned from = memory.gradient[now].left_transposed_place(lane(), weight_row());
      unsigned y = memory.y.right_place(lane(), weight_column());
#pragma unroll 1
      for (int i = 0; i < kParts; ++i) {
        gradient.fetch(raw);
        multiply_by_y(from, y);
        gradient.put<TensorPass>(raw, memory.vectors, [&](int, const Chunk& chunk, bool there) {
          store_chunk(place(now ^ 1, i), chunk, there);
        });
        from = Gradients::down(from, kStep);
        y = Rectifieds::down(y, kStep);
      }
      __syncthreads();
      now ^= 1;
    }
    finish(args, share, memory);
  }

  LADDERSEG_DEVICE void finish(const BackwardArguments& args, const Share& share, Memory& memory) const {
#pragma unroll
    for (int k = 0; k < kPiece; ++k) {
      const float masked = sum_over_lanes<4>(sums.masked[k]);
      const float centred = sum_over_lanes<4>(sums.centred[k]);
      if (lane() < 4) {
        memory.sums.masked[warp() / kWarpsAcross][column() + k] = masked;
        memory.sums.centred[warp() / kWarpsAcross][column() + k] = centred;
      }
    }
    __syncthreads();
    memory.sums.write(args, share);
    const int rows = static_cast<int>(args.grad_output.grad.c), columns = static_cast<int>(args.input.c);
    float* const partial = args.partial_weight + share.part * rows * columns;
#pragma unroll
    for (int i = 0; i < 2; ++i)
#pragma unroll
      for (int j = 0; j < 4; ++j)
#pragma unroll
        for (int k = 0; k < 4; ++k) {
          const int m = weight_row() + 16 * i + lane() / 4 + k / 2 * 8;
          const int c = share.column + weight_column() + 8 * j + lane() % 4 * 2 + k % 2;
          if (m < rows && c < columns) partial[static_cast<int64>(m) * columns + c] = grad_weight[i][j][k];
        }
  }
};

}  // namespace ladderseg::cuda
#endif
