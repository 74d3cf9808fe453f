// Backward of BN-ReLU-conv3x3 by Winograd's filtering: see ladderseg/bn_relu_conv3x3.h and winograd.h.
#include <cstring>

#include "bn_sums.h"
#include "conv3x3_tile.h"
#include "operators.h"
#include "parallel.h"

namespace ladderseg {
namespace LADDERSEG_ISA {
namespace {

// Rows of the transformed weight gradient that are summed in registers; usual numbers of channels are multiples of it.
constexpr int kWeightRows = 8;

// Backward of one call: sizes, regions, and the work on one block of tiles.
//
// Weight gradient: at each point the product of the transformed input tiles and the transformed gradient, summed over
// all blocks, and transformed back to 3x3 at the end. Data gradient: the convolution of the gradient with the mirrored
// filter, one panel of input channels at a time, masked and written while the panel's products are still in cache.
template <class T, bool corrected>
struct Conv3x3Backward {
  using Block = RegisterBlock<T>;
  static constexpr int64_t columns = Block::columns;

  const BnReluConv3x3Backward<T>& args;
  const int64_t channels, outputs;
  const int64_t input_panels;   // of columns input channels
  const int64_t output_panels;  // of columns output channels
  const int64_t weight_rows;    // channels, rounded up to whole register blocks
  const TileGrid grid;
  const NormalisedSource<T> source;
  const GradientSource<T, corrected> gradient;
  const int64_t block;
  ScratchLayout shared, own;
  const Region<T> packed;           // [input_panels][kPoints][outputs][columns]
  const InputTiles<T> input;        // of y, for the weight gradient
  const Region<T> blended;          // A g A^T, [kPoints][output_panels][block][columns]
  const Region<T> grad_weight;      // [kPoints][output_panels][weight_rows][columns]
  const InputTiles<T> grad_output;  // of the gradient, for the data gradient
  const PanelProducts<T> products;
  const TilePixels pixels;  // in grad_input and in input
  const BnSumsScratch<T> sums;

  explicit Conv3x3Backward(const BnReluConv3x3Backward<T>& arguments)
      : args(arguments),
        channels(args.input.c),
        outputs(args.grad_output.grad.c),
        input_panels(round_up(channels, columns) / columns),
        output_panels(round_up(outputs, columns) / columns),
        weight_rows(round_up<int64_t>(channels, kWeightRows)),
        grid(args.grad_input.n, args.grad_input.h, args.grad_input.w, args.dilation),
        source{args.input, args.norm},
        gradient(args.grad_output),
        block(block_tiles<T>(channels)),
        packed(shared.add<T>(input_panels * columns * kPoints * outputs)),
        input(own, args.grad_weight ? channels : 0, block),
        blended(own.add<T>(args.grad_weight ? kPoints * output_panels * block * columns : 0)),
        grad_weight(own.add<T>(args.grad_weight ? kPoints * output_panels * weight_rows * columns : 0)),
        grad_output(own, outputs, block),
        products(own, block),
        pixels(own, block),
        sums(own, channels) {}

  // Packs the mirrored filters, transformed, for the output channels `mine`.
  void pack(char* scratch, Range mine) const {
    for (int64_t c = 0; c < channels; c += columns)
      for (int64_t k = mine.begin; k < mine.end; ++k)
        pack_transformed<true>(args.weight + (k * channels + c) * 9, 9, smaller(columns, channels - c), columns,
                               packed.in(scratch) + (c * kPoints * outputs + k * columns), outputs * columns);
  }

  void start(char* base) const {
    sums.start(base, channels);
    if (!args.grad_weight) return;
    std::memset(blended.in(base), 0, kPoints * output_panels * block * columns * sizeof(T));
    std::memset(grad_weight.in(base), 0, kPoints * output_panels * weight_rows * columns * sizeof(T));
  }

  void add_weight_gradient(char* base, int64_t first, int64_t count) const {
    input.fill(base, source, grid, args.input_first_row, first, count);
    for_each_run(grid, first, count, [&](const TileRun& run, int64_t offset) {
      for_each_channel_vector<T>(outputs, [&](int64_t k, auto v) {
        T* to = blended.in(base) + (k / columns * block + offset) * columns + k % columns;
        transform_gradient<decltype(v)>(gradient, grid, run, args.grad_first_row, k, to, columns,
                                        output_panels * block * columns);
      });
    });
    const FeatureMap<const T> written{args.grad_input.data, args.grad_input.n, args.grad_input.h,
                                      args.grad_input.w,    channels,          args.grad_input.pixel_stride};
    for (int64_t i = 0; i < kPoints; ++i) {
      prefetch_tiles(written, grid, 0, 2, first, count, i, kPoints);
      for (int64_t panel = 0; panel < output_panels; ++panel) {
        const T* b = blended.in(base) + (i * output_panels + panel) * block * columns;
        T* to = grad_weight.in(base) + (i * output_panels + panel) * weight_rows * columns;
        for (int64_t c = 0; c < weight_rows; c += kWeightRows)
          multiply<true, T, kWeightRows>(count, input.tiles.in(base) + i * input.point_stride + c, 1, input.row, b,
                                         to + c * columns, columns);
      }
    }
  }

  // Writes tiles [first, first + count); the tiles after them, up to `last`, come next.
  void write_data_gradient(char* scratch, char* base, int64_t first, int64_t count, int64_t last) const {
    grad_output.fill(base, gradient, grid, args.grad_first_row, first, count);
    pixels.fill(base, grid, args.input_first_row, args.input.h, first, count);
    for (int64_t panel = 0; panel < input_panels; ++panel) {
      const T* weight = packed.in(scratch) + panel * kPoints * outputs * columns;
      products.run(base, grad_output, count, weight, [&](int64_t part, int64_t parts) {
        prefetch_next(first + block, last, panel * parts + part, input_panels * parts);
      });
      const int64_t from = panel * columns, width = smaller(columns, channels - from);
      for_each_channel_vector<T>(width,
                                 [&](int64_t j, auto v) { backward_elements<decltype(v)>(base, from, j, count); });
    }
    sums.flush(base, channels);
  }

  // Prefetches part `part` of `parts` of what the block of tiles from `first` on, before `last`, reads.
  LADDERSEG_INLINE void prefetch_next(int64_t first, int64_t last, int64_t part, int64_t parts) const {
    const int64_t count = smaller(block, last - first);
    prefetch_tiles(args.input, grid, args.input_first_row - grid.dilation, 4, first, count, part, parts);
    const auto& [grad, x, mean, constant, slope] = args.grad_output;
    prefetch_tiles(grad, grid, args.grad_first_row - grid.dilation, 4, first, count, part, parts);
    if (corrected) prefetch_tiles(x, grid, args.grad_first_row - grid.dilation, 4, first, count, part, parts);
  }

  // Computes mask, grad_input and sums of V channels of the panel that begins at channel `from`.
  template <class V>
  LADDERSEG_INLINE void backward_elements(char* base, int64_t from, int64_t j, int64_t count) const {
    const int64_t c = from + j;
    const V mean = load_as<V>(args.norm.mean + c);
    const V scale = load_as<V>(args.norm.scale + c);
    const V shift = load_as<V>(args.norm.shift + c);
    const T* x = args.input.data + c;
    T* to = args.grad_input.data + c;
    const int64_t* written = pixels.first.in(base);
    const int64_t* read = pixels.second.in(base);
    V masked = {}, centred = {};
    for (int64_t t = 0; t < count; ++t) {
      V g[4];
      transform_output(products.products.in(base) + t * columns + j, products.point_stride, g);
#pragma GCC unroll 4
      for (int64_t i = 0; i < 4; ++i) {
        if (written[4 * t + i] < 0) continue;
        const V d = load_as<V>(x + read[4 * t + i] * args.input.pixel_stride) - mean;
        const V m = relu_mask(d * scale + shift, g[i]);
        store_as<V>(to + written[4 * t + i] * args.grad_input.pixel_stride, scale * m);
        masked += m;
        centred += m * d;
      }
    }
    store_as<V>(sums.masked.in(base) + c, load_as<V>(sums.masked.in(base) + c) + masked);
    store_as<V>(sums.centred.in(base) + c, load_as<V>(sums.centred.in(base) + c) + centred);
  }

  // Adds the members' sums in their order and transforms them back to 3x3, for the input channels `mine`.
  template <class MemberBase>
  void finish_weight(int team, const MemberBase& base_of, Range mine) const {
    for (int64_t k = 0; k < outputs; ++k)
      for (int64_t c = mine.begin; c < mine.end; ++c) {
        double sum[kPoints] = {}, grad[9];
        for (int64_t i = 0; i < kPoints; ++i) {
          const int64_t at = ((i * output_panels + k / columns) * weight_rows + c) * columns + k % columns;
          for (int member = 0; member < team; ++member)
            sum[i] += static_cast<double>(grad_weight.in(base_of(member))[at]);
        }
        transform_weight_gradient(sum, grad);
        for (int tap = 0; tap < 9; ++tap) args.grad_weight[(k * channels + c) * 9 + tap] = static_cast<T>(grad[tap]);
      }
  }
};

template <bool corrected, class T>
void backward(const BnReluConv3x3Backward<T>& args, int threads) {
  const Conv3x3Backward<T, corrected> work(args);
  char* const scratch = reserve_scratch(work.shared.bytes + threads * work.own.bytes);
  const auto base_of = [&](int member) { return scratch + work.shared.bytes + member * work.own.bytes; };

  parallel(threads, [&](int member, int team) {
    char* const base = base_of(member);
    work.pack(scratch, split(work.outputs, member, team));
    work.start(base);
    barrier(team);
    const Range range = split(work.grid.count(), member, team);
    for (int64_t first = range.begin; first < range.end; first += work.block) {
      const int64_t count = smaller(work.block, range.end - first);
      if (args.grad_weight) work.add_weight_gradient(base, first, count);
      work.write_data_gradient(scratch, base, first, count, range.end);
    }
    barrier(team);
    if (args.grad_weight) work.finish_weight(team, base_of, split(work.channels, member, team));
    if (member == 0) work.sums.finish(team, base_of, work.channels, args.sums);
  });
}

}  // namespace

template <class T>
void bn_relu_conv3x3_backward(const BnReluConv3x3Backward<T>& args, int threads) {
  if (args.grad_output.input.data)
    backward<true>(args, threads);
  else
    backward<false>(args, threads);
}

LADDERSEG_INSTANTIATE(bn_relu_conv3x3_backward)

}  // namespace LADDERSEG_ISA
}  // namespace ladderseg
