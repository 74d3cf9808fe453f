// The 3x3 convolution of a patch on tensor cores: see product_tensor.cuh for types and rounding.
//
//   result[p, j] = sum over taps t and channels c of value[p moved by tap t, c] * weight[t, c, j]
//
// The values are computed from a map once, for the patch and the frame around it, and read from shared memory by all
// nine taps. A row of the patch is the 16 rows of an instruction. Channels come in slices of 64 bytes of a pixel. While
// a slice is multiplied, a third of the next one's values is brought during three taps each; weights come in stages of
// some taps, one stage or two ahead.
//
// Shared memory holds chunks of 16 bytes. Chunk c of a pixel in column x of the frame lies at c ^ (x / 2 % 4): so eight
// neighbouring pixels' chunks c lie in different banks, and the row does not change where in a pixel a lane reads.
#pragma once

#include "bn_relu_conv3x3.h"
#include "pixel_sources.cuh"
#include "product_tensor.cuh"
#include "threads.cuh"

#if LADDERSEG_TENSOR_CORES
namespace ladderseg::cuda {

// Ends a group of copies by this thread: all since the last.
LADDERSEG_DEVICE void end_copies() {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.commit_group;" : : : "memory");
#endif
}

// Waits for all groups of copies by this thread but the last.
LADDERSEG_DEVICE void wait_for_copies_before_last() {
#if __CUDA_ARCH__ >= 800
  asm volatile("cp.async.wait_group 1;" : : : "memory");
#endif
}

// blockIdx.x, as thread_again().
LADDERSEG_DEVICE int block_again() {
  int block;
  asm volatile("mov.u32 %0, %%ctaid.x;" : "=r"(block));
  return block;
}

// A tile of the pixels of a patch.
template <int columns>
struct PatchTile : TensorTile<columns, tensor_patch_threads(columns)> {
  using Patch = cuda::Patch<kTensorPatchHeight, kTensorPatchWidth>;

  static constexpr int kColumnPiece = kWide;

  // To a multiprocessor. Turing has shared memory for one only; on sm_120 two large ones of tf32 would spill registers.
  static constexpr bool kOneBlock =
      __CUDA_ARCH__ < 800 || (__CUDA_ARCH__ >= 1200 && sizeof(Element) == 4 && columns == 128);
  static constexpr int kBlocks = kOneBlock ? 1 : 512 / PatchTile::kThreads;

  static_assert(kTensorPatchHeight * kTensorPatchWidth == PatchTile::kRows, "a row of the tile is a pixel");
  static_assert(kTensorPatchWidth == 16, "a row of the patch is the rows of an instruction");
};

// A block's part of the work. Blocks are numbered column tile first, patches are parts.
template <class Tile>
struct PatchBlock {
  int part, column;
  typename Tile::Patch patch;

  template <class Arguments>
  LADDERSEG_DEVICE PatchBlock(const Arguments& args, int block) {
    part = block / args.column_tiles;
    column = block % args.column_tiles * Tile::kColumns;
    patch = Tile::Patch::of(args.patches, part);
  }
};

// A patch and its frame: where its pixels are, and a slice of them in shared memory and on the way there.
template <class Tile>
struct Frame {
  static constexpr int kWidth = kTensorPatchWidth + 2;
  static constexpr int kPixels = (kTensorPatchHeight + 2) * kWidth;
  static constexpr int kChunks = 4;                             // of a pixel
  static constexpr int kDown = Tile::kThreads / kChunks;        // pixels that a chunk per thread makes
  static constexpr int kCount = (kPixels + kDown - 1) / kDown;  // chunks of a thread
  static constexpr int kThird = kCount / 3;
  static_assert(kCount % 3 == 0, "as many chunks during each third of the taps");

  using Slice = Chunk[kPixels][kChunks];

  struct Pixel {
    int number;  // in its image; or -1
    int place;   // of its first chunk in a slice, in bytes
  };
  Pixel pixels[kPixels];

  LADDERSEG_DEVICE static int permuted(int x, int chunk) { return chunk ^ (x / 2 % 4); }

  // Leaves the block synchronised.
  template <class Source>
  LADDERSEG_DEVICE void find_pixels(const Source& source, const typename Tile::Patch& patch) {
    const int64 first = patch.image * source.rows() * patch.w;
    for (int i = thread_again(); i < kPixels; i += Tile::kThreads) {
      const int y = i / kWidth, x = i - y * kWidth;
      const int64 p = patch.pixel_of(source.rows(), source.first_row, y - 1, x - 1);
      pixels[i] = {p < 0 ? -1 : static_cast<int>(p - first), (i * kChunks + permuted(x, 0)) * int{sizeof(Chunk)}};
    }
    __syncthreads();
  }

  // Reads a thread's chunks from number `from` on. What is outside of the map is read from somewhere in it.
  template <int count, class Source>
  LADDERSEG_DEVICE void fetch(const Source& source, int from, int channel, typename Source::Raw (&raw)[count]) const {
    const int thread = thread_again(), c = channel + thread % kChunks * kWide;
    const int existing = c < source.channels() ? c : 0;
#pragma unroll
    for (int i = 0; i < count; ++i) {
      const int number = there(thread, from + i) ? pixels[pixel(thread, from + i)].number : 0;
      raw[i] = source.fetch_near(max(number, 0), existing);
    }
  }

  template <int count, class Source>
  LADDERSEG_DEVICE void put(const Source& source, int from, int channel, const typename Source::Raw (&raw)[count],
                            Slice& slice) const {
    const int thread = thread_again(), chunk = thread % kChunks, c = channel + chunk * kWide;
    const auto vectors = source.vectors(c);
#pragma unroll
    for (int i = 0; i < count; ++i) {
      if (!there(thread, from + i)) continue;
      const Pixel at = pixels[pixel(thread, from + i)];
      Chunk values = encode(source.values(raw[i], vectors));
      if (at.number < 0 || c >= source.channels()) values.words = make_uint4(0, 0, 0, 0);
      const int place = at.place ^ chunk * int{sizeof(Chunk)};
      *reinterpret_cast<uint4*>(reinterpret_cast<char*>(&slice) + place) = values.words;
    }
  }

 private:
  LADDERSEG_DEVICE static int pixel(int thread, int i) { return thread / kChunks + i * kDown; }
  LADDERSEG_DEVICE static bool there(int thread, int i) {
    return kDown * (i + 1) <= kPixels || pixel(thread, i) < kPixels;
  }
};

// Weights of some indices, the columns of the result: weight[tap, index, depth].
template <Contiguous contiguous>
struct TapWeights {
  const Element* data;
  int tap_stride, row_stride;  // a row is what is contiguous
  int indices, depth;          // in whole chunks where they are contiguous
};

// Stages of weights for a tile's columns and a slice of channels: in shared memory, and on the way there. The chunks of
// a row are permuted as TensorTile::Side's.
template <class Tile, Contiguous contiguous>
struct WeightStages {
  static constexpr bool kDepthContiguous = contiguous == Contiguous::depth;
  static constexpr int kSlice = Tile::kDepth;  // channels
  static constexpr int kRows = kDepthContiguous ? Tile::kColumns : kSlice;
  static constexpr int kChunks = (kDepthContiguous ? kSlice : Tile::kColumns) / kWide;
  static constexpr int kTaps = Tile::kColumns > kNarrowColumns ? 1 : 3;  // of a stage
  static constexpr int kStages = 9 / kTaps;                              // of a slice
  static constexpr int kResident = 3;
  static constexpr int kAhead = Tile::kAsynchronous ? 2 : 1;
  static constexpr int kDown = Tile::kThreads / kChunks;  // rows that a chunk per thread makes
  static constexpr int kCount = kTaps * kRows / kDown;    // chunks of a thread
  static_assert(kTaps == 1 ? kRows % kDown == 0 : kRows == kDown, "a thread's chunks are one per tap, or of one tap");
  static_assert(kDown % 8 == 0, "a thread's chunks are permuted alike");

  struct Stage {
    typename Tile::template Side<contiguous, Tile::kColumns> taps[kTaps];
  };
  using Memory = Stage[kResident];

  const TapWeights<contiguous>& weights;
  Chunk raw[Tile::kAsynchronous ? 1 : kCount];

  // Starts to bring stage `stage` of the slice from `channel` on, for columns from `column` on.
  LADDERSEG_DEVICE void fetch(int column, int channel, int stage, Memory& memory) {
    const int thread = thread_again(), row = thread / kChunks, first = thread % kChunks * kWide;
    const int index = column + (kDepthContiguous ? row : first), depth = channel + (kDepthContiguous ? first : row);
    const int offset = (kDepthContiguous ? index * weights.row_stride + depth : depth * weights.row_stride + index) +
                       stage * kTaps * weights.tap_stride;
    Chunk* const to = memory[stage % kResident].taps[0].chunk(row, first / kWide);
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      const int rows = kTaps == 1 ? i * kDown : 0;
      const bool inside = kDepthContiguous ? index + rows < weights.indices && depth < weights.depth
                                           : index < weights.indices && depth + rows < weights.depth;
      const Element* const from =
          weights.data + (offset + i * (kTaps == 1 ? kDown * weights.row_stride : weights.tap_stride));
      if constexpr (Tile::kAsynchronous) {
        copy_asynchronously(to + i * kDown * kChunks, inside ? from : weights.data, inside);
      } else {
        raw[i].words = make_uint4(0, 0, 0, 0);
        if (inside) raw[i] = fetch_chunk<true>(from, kWide);
      }
    }
    end_copies();
  }

  // Completes it where it did not go past the registers.
  LADDERSEG_DEVICE void put(int stage, Memory& memory) const {
    if constexpr (!Tile::kAsynchronous) {
      const int thread = thread_again();
      Chunk* const to = memory[stage % kResident].taps[0].chunk(thread / kChunks, thread % kChunks);
#pragma unroll
      for (int i = 0; i < kCount; ++i)
        to[i * kDown * kChunks].words = sizeof(Element) == 4 ? encode(unpack(raw[i])).words : raw[i].words;
    }
  }
};

// Where this lane reads its parts of the factors: addresses in shared memory. Chunks are permuted so that the chunk
// after the next lies 32 bytes before or after a chunk: their addresses differ in one bit.
template <class Tile, Contiguous contiguous>
struct FactorAddresses {
  using Frame = cuda::Frame<Tile>;
  using Side = typename Tile::template Side<contiguous, Tile::kColumns>;
  static constexpr int kSteps = Tile::kDepth / Tile::kStep;  // of a slice
  static constexpr int kRowBytes = sizeof(Side) / Side::kSideRows;
  static constexpr unsigned kNext = 2 * sizeof(Chunk);
  static_assert(kSteps * kNext == sizeof(Chunk[Frame::kChunks]), "a step is two chunks of a pixel");

  unsigned left[3];  // of the first row of this warp, by the tap's column
  unsigned right;

  LADDERSEG_DEVICE FactorAddresses(const typename Frame::Slice& values, const Side& weights) {
    const int thread = thread_again(), lane = thread % 32;
    const int row = thread / 32 / Tile::kWarpsAcross * (Tile::kWarpRows / kTensorPatchWidth);
    const int column = thread / 32 % Tile::kWarpsAcross * Tile::kWarpColumns;
#pragma unroll
    for (int v = 0; v < 3; ++v) {
      const int x = v + lane % 16;
      left[v] = shared_address(&values[row * Frame::kWidth + x][Frame::permuted(x, lane / 16)]);
    }
    if constexpr (contiguous == Contiguous::depth)
      right = shared_address(weights.chunk(column + lane % 8 + lane / 16 * 8, lane / 8 % 2));
    else if constexpr (sizeof(Element) == 4)
      right = shared_address(weights.chunk(lane % 4, column / kWide + lane / 16)) + lane / 4 % 4 * 4;
    else
      right = shared_address(weights.chunk(lane % 16, column / kWide + lane / 16));
  }

  // A step's channels of this warp's first 16 pixels, moved by a tap; those of row i are kRow * i from there.
  static constexpr unsigned kRow = Frame::kWidth * sizeof(Chunk[Frame::kChunks]);
  LADDERSEG_DEVICE unsigned pixels(unsigned values, int tap, int step) const {
    return next(left[tap % 3], step) + values + tap / 3 * kRow;
  }

  // A step's channels of this warp's 32 columns.
  LADDERSEG_DEVICE void columns(unsigned weights, int step, Registers2 (&to)[4]) const {
    const unsigned at = weights + step * Tile::kStep * kRowBytes;
#pragma unroll
    for (int j = 0; j < 4; j += 2) {
      if constexpr (contiguous == Contiguous::index && sizeof(Element) == 4) {
#pragma unroll
        for (int k = j; k < j + 2; ++k) {
          const unsigned words = next(right, k) + at;
          to[k] = {{load_word(words), load_word(words + 4 * kRowBytes)}};
        }
      } else {
        const Registers4 both = contiguous == Contiguous::depth
                                    ? load_matrices(next(right, step) + weights + 8 * j * kRowBytes)
                                    : load_matrices_transposed(next(right, j / 2) + at);
        to[j] = {{both.r[0], both.r[1]}};
        to[j + 1] = {{both.r[2], both.r[3]}};
      }
    }
  }

 private:
  // The address of the chunk that is 2 * i chunks from one whose number allows it. Not computed before it is needed:
  // registers are few.
  LADDERSEG_DEVICE static unsigned next(unsigned address, int i) {
    if (i != 0) asm volatile("xor.b32 %0, %0, %1;" : "+r"(address) : "r"(i * kNext));
    return address;
  }
};

template <class Tile, Contiguous contiguous>
struct ConvolutionMemory {
  // Two slices: one is computed with while the next is filled.
  alignas(128) typename Frame<Tile>::Slice values[2];
  alignas(128) typename WeightStages<Tile, contiguous>::Memory weights;
  Frame<Tile> frame;
  int column;  // the tile's first
};

// tile.sums = the convolution of the patch, for columns from `column` on. With `reversed`, taps are moved the other
// way. Leaves the block synchronised.
template <bool reversed, class Tile, class Source, Contiguous contiguous>
LADDERSEG_DEVICE void convolve(Tile& tile, Source source, const typename Tile::Patch& patch,
                               const TapWeights<contiguous>& weights, int column,
                               ConvolutionMemory<Tile, contiguous>& memory) {
  using Frame = cuda::Frame<Tile>;
  using Stages = WeightStages<Tile, contiguous>;
  using Factors = FactorAddresses<Tile, contiguous>;
  constexpr int kSlice = Stages::kSlice, kThirdStages = Stages::kStages / 3;
  // Whether the column is read for every stage, because there is no register for it.
  constexpr bool kReadsColumn = sizeof(Element) == 4 || !reversed;
  Stages stages{weights};
#pragma unroll
  for (int stage = 0; stage < Stages::kAhead; ++stage) {
    stages.fetch(column, 0, stage, memory.weights);
    stages.put(stage, memory.weights);
  }
  if (kReadsColumn && thread_again() == 0) memory.column = column;
  Frame& frame = memory.frame;
  frame.find_pixels(source, patch);
  source.skip(patch.image * source.rows() * patch.w);
  {
    typename Source::Raw raw[Frame::kCount];
    frame.fetch(source, 0, 0, raw);
    frame.put(source, 0, 0, raw, memory.values[0]);
  }
  const Factors factors(memory.values[0], memory.weights[0].taps[0]);
  tile.clear();
  unsigned now = 0;
#pragma unroll 1
  for (int channel = 0; channel < source.channels(); channel += kSlice) {
    const int next = channel + kSlice;
    const bool more = next < source.channels();
#pragma unroll
    for (int third = 0; third < 3; ++third) {
      typename Source::Raw raw[Frame::kThird];
      // They are there after the third's first stage; registers have no room for them for longer.
      if (more) frame.fetch(source, third * Frame::kThird, next, raw);
#pragma unroll
      for (int stage = third * kThirdStages; stage < (third + 1) * kThirdStages; ++stage) {
        wait_for_copies_before_last();
        __syncthreads();
        const int coming = (stage + Stages::kAhead) % Stages::kStages;
        const bool comes = more || coming > stage;
        if (comes)
          stages.fetch(kReadsColumn ? memory.column : column, coming > stage ? channel : next, coming, memory.weights);
        else
          end_copies();
#pragma unroll
        for (int t = 0; t < Stages::kTaps; ++t) {
          const int tap = stage * Stages::kTaps + t;
          const unsigned at = static_cast<unsigned>(sizeof(typename Stages::Stage)) * (stage % Stages::kResident) +
                              static_cast<unsigned>(sizeof(typename Factors::Side)) * t;
#pragma unroll
          for (int step = 0; step < 2; ++step) {
            Registers2 b[4];
            factors.columns(at, step, b);
            const unsigned pixels = factors.pixels(now, reversed ? 8 - tap : tap, step);
#pragma unroll
            for (int i = 0; i < Tile::kDownTiles; ++i) tile.add_step(i, load_matrices(pixels + i * Factors::kRow), b);
          }
        }
        if (comes) stages.put(coming, memory.weights);
        if (more && stage == third * kThirdStages)
          frame.put(source, third * Frame::kThird, next, raw, memory.values[now ? 0 : 1]);
      }
    }
    now ^= sizeof(typename Frame::Slice);
  }
  __syncthreads();
  tile.finish();
}

}  // namespace ladderseg::cuda

// Entry points of kernels with such tiles, for maps whose pixels are whole chunks of 16 bytes and aligned vectors. The
// kernel's file has their `convolve_patch<Tile>(args, memory)`, and the TensorMemory<Tile> that it works in.
#define LADDERSEG_TENSOR_PATCH_KERNEL(name, Arguments, columns)                                           \
  extern "C" __global__ void __launch_bounds__(PatchTile<columns>::kThreads, PatchTile<columns>::kBlocks) \
      LADDERSEG_KERNEL(name)(const Arguments args) {                                                      \
    __shared__ TensorMemory<PatchTile<columns>> memory;                                                   \
    convolve_patch<PatchTile<columns>>(args, memory);                                                     \
  }
#else
#define LADDERSEG_TENSOR_PATCH_KERNEL(name, Arguments, columns)
#endif
