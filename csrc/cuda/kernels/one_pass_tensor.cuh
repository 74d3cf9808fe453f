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
  Chunk chunks[rows][columns / kWide];

  LADDERSEG_DEVICE static int order(int row) { return row / together % 4 * 2 + row / 4 % 2; }
  LADDERSEG_DEVICE const Chunk* chunk(int row, int number) const { return &chunks[row][number ^ order(row)]; }
  LADDERSEG_DEVICE Chunk* chunk(int row, int number) { return &chunks[row][number ^ order(row)]; }
  LADDERSEG_DEVICE void put(int row, int column, const Pack<kWide>& pack) {
    chunk(row, column / kWide)->words = encode(pack).words;
  }
  LADDERSEG_DEVICE Element element(int row, int column) const {
    return chunk(row, column / kWide)->elements[column % kWide];
  }
  LADDERSEG_DEVICE unsigned word(int row, int column) const {
    return reinterpret_cast<const unsigned*>(chunk(row, column / kWide))[column % kWide];
  }

  // The left factor of 16 rows from `row` on and a step's columns.
  LADDERSEG_DEVICE Registers4 left(int lane, int row, int column) const {
    return load_matrices(chunk(row + lane % 16, column / kWide + lane / 16));
  }

  // The left factor of 16 columns and a step's rows.
  LADDERSEG_DEVICE Registers4 left_transposed(int lane, int row, int column) const {
    if constexpr (sizeof(Element) == 4) {
      const int r = row + lane % 4, c = column + lane / 4;
      return {{word(r, c), word(r, c + 8), word(r + 4, c), word(r + 4, c + 8)}};
    } else {
      return load_matrices_transposed(chunk(row + lane % 8 + lane / 16 * 8, column / kWide + lane / 8 % 2));
    }
  }

  // The right factors of a step's rows and twice 8 columns.
  LADDERSEG_DEVICE void right(int lane, int row, int column, Registers2& first, Registers2& second) const {
    if constexpr (sizeof(Element) == 4) {
      const int r = row + lane % 4, c = column + lane / 4;
      first = {{word(r, c), word(r + 4, c)}};
      second = {{word(r, c + 8), word(r + 4, c + 8)}};
    } else {
      const Registers4 all = load_matrices_transposed(chunk(row + lane % 16, column / kWide + lane / 16));
      first = {{all.r[0], all.r[1]}};
      second = {{all.r[2], all.r[3]}};
    }
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

  struct Memory {
    // One is computed with while the next is filled.
    union {
      PermutedTile<kPixels, kOnePassGradients> gradient[2];
      PermutedTile<kOnePassGradients, kColumns, kWord> weight;  // at first
    };
    PermutedTile<kPixels, kColumns> y;
    BlockSums<kWarpsDown, kColumns> sums;
  };

  union Piece {
    uint2 words;
    Element elements[kPiece];
  };

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
    const Matrix<true> matrix{args.weight, args.grad_output.grad.c, static_cast<int>(args.input.c)};
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

  // g of 16 pixels of the tile: of tiles of 8 columns.
  LADDERSEG_DEVICE void multiply_by_weight(const PermutedTile<kPixels, kOnePassGradients>& gradient, int pixel,
                                           float (&g)[kTiles][4]) const {
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile)
#pragma unroll
      for (int k = 0; k < 4; ++k) g[tile][k] = 0.0f;
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      const Registers4 a = gradient.left(lane(), pixel, step * kStep);
#pragma unroll
      for (int tile = 0; tile < kTiles; ++tile) multiply_add(g[tile], a, weight[step][tile]);
    }
  }

  // 16 pixels of the tile that begins at p: writes grad_input and y.
  LADDERSEG_DEVICE void pass_pixels(const BackwardArguments& args, int64 p, int64 end, int first_column, int pixel,
                                    const PermutedTile<kPixels, kOnePassGradients>& gradient,
                                    PermutedTile<kPixels, kColumns>& y_tile) {
    const int c = first_column + column();
    Piece x[2] = {}, result[2] = {};
    bool there[2];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int64 q = p + pixel + lane() / 4 + 8 * half;
      there[half] = q < end && c < args.input.c;
      if (!there[half]) continue;
      x[half].words = *reinterpret_cast<const uint2*>(args.input.pixel(q) + c);
      if (args.accumulate) result[half].words = *reinterpret_cast<const uint2*>(args.grad_input.pixel(q) + c);
    }
    float g[kTiles][4];
    multiply_by_weight(gradient, pixel, g);
    thread = thread_again();
    const ChannelNorm<kPiece> norm(args.norm, c, static_cast<int>(args.input.c) - c);
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int row = pixel + lane() / 4 + 8 * half;
      Piece factors = {};
      if (there[half]) {
        Real of_x[kPiece], of_g[kPiece], sum[kPiece], y[kPiece];
#pragma unroll
        for (int k = 0; k < kPiece; ++k) {
          of_x[k] = to_real(x[half].elements[k]);
          of_g[k] = g[k / 2][2 * half + k % 2];
          sum[k] = to_real(result[half].elements[k]);
        }
        pass(norm, of_x, of_g, sum, y, sums);
#pragma unroll
        for (int k = 0; k < kPiece; ++k) {
          result[half].elements[k] = to_element(sum[k]);
          factors.elements[k] = factor(y[k]);
        }
        if (args.grad_input.data) *reinterpret_cast<uint2*>(args.grad_input.pixel(p + row) + c) = result[half].words;
      }
      Chunk* const chunk = y_tile.chunk(row, column() / kWide);
      reinterpret_cast<uint2*>(chunk)[column() % kWide / kPiece] = factors.words;
    }
  }

  // grad_weight += a step's pixels of the gradient, from p on, transposed, * y.
  LADDERSEG_DEVICE void multiply_by_y(int p, const PermutedTile<kPixels, kOnePassGradients>& gradient,
                                      const PermutedTile<kPixels, kColumns>& y) {
    Registers2 b[4];
    y.right(lane(), p, weight_column(), b[0], b[1]);
    y.right(lane(), p, weight_column() + 16, b[2], b[3]);
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const Registers4 a = gradient.left_transposed(lane(), p, weight_row() + 16 * i);
#pragma unroll
      for (int j = 0; j < 4; ++j) multiply_add(grad_weight[i][j], a, b[j]);
    }
  }

  // The rows of all maps are whole chunks of 16 bytes.
  LADDERSEG_DEVICE void walk(const BackwardArguments& args, Memory& memory) {
    const Share share = Share::of(args, kColumns);
    bring_weight(args, share.column, memory);
    const int rows = static_cast<int>(args.grad_output.grad.c);
    GradientChunks<true> gradient{{args.grad_output, share.end, rows}, thread};
    constexpr int kParts = kPixels / kStep;  // of a tile
    static_assert(GradientChunks<true>::kDown == kStep, "a chunk per thread makes a part");
    typename Corrected<true>::Raw raw[1];
    int now = 0;
#pragma unroll 1
    for (int i = 0; i < kParts; ++i) {
      gradient.fetch(share.begin, i, raw);
      gradient.put(share.begin, i, raw, memory.gradient[0]);
    }
    __syncthreads();
#pragma unroll 1
    for (int64 p = share.begin; p < share.end; p += kPixels) {
      thread = thread_again();
#pragma unroll 1
      for (int pixel = warp_pixel(); pixel < warp_pixel() + 32; pixel += 16)
        pass_pixels(args, p, share.end, share.column, pixel, memory.gradient[now], memory.y);
      __syncthreads();
      // A part of the next tile is on its way while a part of this one is multiplied: registers have no room for more.
#pragma unroll 1
      for (int i = 0; i < kParts; ++i) {
        gradient.thread = thread = thread_again();
        gradient.fetch(p + kPixels, i, raw);
        multiply_by_y(i * kStep, memory.gradient[now], memory.y);
        gradient.put(p + kPixels, i, raw, memory.gradient[now ^ 1]);
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
