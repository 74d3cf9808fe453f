// The stem's convolution on tensor cores: see product_tensor.cuh for types and rounding.
//
//   result[p, k] = sum over channels c, filter rows u and taps v of image[c, 2 y + u, 2 x + v] * weight[k, c, u, v]
//
// A block has 4 x 32 pixels p = (y, x) and 64 outputs k, a warp a row of the pixels and half the outputs. A filter's
// row is eight deep, of which the last is zero, as is an eighth row. The image lies in shared memory as in its own:
// neighbours in depth are neighbours there, so a lane reads its words of the left factor where they are.
//
// What is multiplied by the zeros must be finite: it is replaced by zeros too.
#pragma once

#include "product_tensor.cuh"
#include "stem_tile.cuh"

#if LADDERSEG_TENSOR_CORES
namespace ladderseg::cuda {

struct StemTensor {
  using Tile = TensorTile<kStemOutputs>;
  static constexpr int kRowTaps = 8;  // of a row of a filter, with the zero
  static constexpr int kWarps = Tile::kThreads / 32;
  static constexpr int kWidth = kStemStride * (kStemColumns - 1) + kRowTaps;  // of the image under a tile
  static constexpr int kHeight = stem_window(kStemForwardRows);
  static constexpr int kRowChunks = kRowTaps / kWide;                       // of a row of a filter
  static constexpr int kStepRows = Tile::kStep / kRowTaps;                  // filter rows of an instruction
  static constexpr int kSteps = (kStemKernel + kStepRows - 1) / kStepRows;  // for one channel
  static_assert(kStemForwardRows * kStemColumns == Tile::kRows && kStemColumns == Tile::kWarpRows,
                "a warp has a row of pixels");
  static_assert(kRowTaps == 8 && kStemKernel < kRowTaps, "a lane has the same tap of two rows");

  struct Memory {
    alignas(16) Element image[kHeight][kWidth];  // of one channel
    // Of one channel, a row's chunks after each other. The padding puts an output's rows into different banks.
    Chunk weight[kRowTaps * kRowChunks][kStemOutputs + 1];
  };

  Tile tile;

  LADDERSEG_DEVICE static int warp() { return product_thread() / 32; }
  LADDERSEG_DEVICE static int lane() { return product_thread() % 32; }

  // A number in the form that tensor cores take.
  LADDERSEG_DEVICE static Element factor(Element x) {
#if defined(LADDERSEG_ELEMENT_float32)
    return encode<unsigned>(Pack<1>{{x}}).elements[0];
#else
    return x;
#endif
  }

  // Loads a channel under the tile at (row, column) of the convolution, of which `rows` rows exist.
  LADDERSEG_DEVICE static void load_image(const Images<Element>& images, int64 image, int64 channel, int64 row,
                                          int column, int rows, Memory& memory) {
    read_image<Tile::kThreads, kHeight, kWidth / kStemStride>(
        images, image, channel, row, column, rows, [&](int i, int place, const Element(&numbers)[kStemStride]) {
#pragma unroll
          for (int k = 0; k < kStemStride; ++k) memory.image[i][kStemStride * place + k] = factor(numbers[k]);
        });
  }

  // Loads the weights of a channel. A warp has an output's taps, a lane the same tap of two rows of the filter.
  template <class Arguments>
  LADDERSEG_DEVICE static void load_weights(const Arguments& args, int64 channel, int first_output, Memory& memory) {
    constexpr int kRows = 32 / kRowTaps;  // of the filter, that lanes have at a time
    const int u = lane() / kRowTaps, v = lane() % kRowTaps;
    const int64 number = (first_output + warp()) * args.images.c + channel;
    const Element* from = args.weight + number * kStemTaps + kStemKernel * u + v;
    const int outputs = static_cast<int>(smaller(args.output.c - first_output, kStemOutputs));
    const bool first = v < kStemKernel, second = first && u + kRows < kStemKernel;
    Chunk* const to = memory.weight[u * kRowChunks + v / kWide];
#pragma unroll
    for (int times = 0; times < kStemOutputs / kWarps; ++times) {
      const int output = warp() + times * kWarps;
      const bool inside = output < outputs;
      to[output].elements[v % kWide] = inside && first ? factor(from[0]) : Element{};
      to[kRows * kRowChunks * (kStemOutputs + 1) + output].elements[v % kWide] =
          inside && second ? factor(from[kRows * kStemKernel]) : Element{};
      from += kWarps * kStemTaps * args.images.c;
    }
  }

  // Adds the products of the channel in memory.
  LADDERSEG_DEVICE void multiply(const Memory& memory) {
    const unsigned image =
        shared_address(&memory.image[kStemStride * (Tile::warp_row() / kStemColumns)][kStemStride * (lane() / 4)]) +
        lane() % 4 * 4;
    const unsigned weight =
        shared_address(&memory.weight[lane() / 8 % 2][Tile::warp_column() + lane() % 8 + lane() / 16 * 8]);
    // Of the word with a row's last tap, what is left.
    const unsigned last = lane() % 4 < 3 ? 0xffffffffu : sizeof(Element) == 2 ? 0x0000ffffu : 0;
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      Registers2 b[Tile::kAcrossTiles];
#pragma unroll
      for (int j = 0; j < Tile::kAcrossTiles; j += 2) {
        const int chunk = 2 * step * (kStemOutputs + 1) + 8 * j;
        const Registers4 both = load_matrices(weight + chunk * static_cast<int>(sizeof(Chunk)));
        b[j] = {{both.r[0], both.r[1]}};
        b[j + 1] = {{both.r[2], both.r[3]}};
      }
#pragma unroll
      for (int i = 0; i < Tile::kDownTiles; ++i) {
        Registers4 a;
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          const int u = kStepRows * step + half * (kStepRows - 1), v = half * (2 - kStepRows) * (kRowTaps / 2);
#pragma unroll
          for (int k = 0; k < 2; ++k) {
            const int place = u * kWidth + kStemStride * (16 * i + 8 * k) + v;
            unsigned word = u < kStemKernel ? load_word(image + place * static_cast<int>(sizeof(Element))) : 0;
            if (kStepRows == 2 || half == 1) word &= last;
            a.r[2 * half + k] = word;
          }
        }
        tile.add_step(i, a, b);
      }
    }
  }

  // Writes the tile at `at` to the output.
  template <class Arguments>
  LADDERSEG_DEVICE void store(const Arguments& args, const StemTile& at, int first_output) {
    tile.finish();
    const int row = at.row + Tile::warp_row() / kStemColumns;
    const int64 k = first_output + Tile::column(0);
    const int left = static_cast<int>(smaller(args.output.c - k, Tile::kThreadColumns));
    if (row >= args.output.h) return;
#pragma unroll
    for (int i = 0; i < Tile::kThreadRows; ++i) {
      const int x = at.column + Tile::row(i) % kStemColumns;
      if (x < args.output.w) store_piece(args.output.at(at.image, row, x) + k, left, args.wide_output, tile.sums[i]);
    }
  }
};

}  // namespace ladderseg::cuda
#endif
