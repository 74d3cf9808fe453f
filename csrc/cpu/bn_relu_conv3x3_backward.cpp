// Backward of BN-ReLU-conv3x3 by Winograd's filtering: see ladderseg/bn_relu_conv3x3.h and winograd.h.
#include <cstring>

#include "bn_sums.h"
#include "conv3x3_tile.h"
#include "operators.h"
#include "parallel.h"
#include "transpose.h"

namespace ladderseg {
namespace LADDERSEG_ISA {
namespace {

// Rows of the transformed weight gradient that are summed in registers; usual numbers of channels are multiples of it.
constexpr int kWeightRows = 8;
// Input channels whose part of the weight gradient is made at a time, and the tiles it sums over before it is added to
// the sums in memory: few enough that their tiles stay in cache, and many, because those sums do not.
constexpr int64_t kSliceChannels = 32;
constexpr int64_t kMaxWeightTiles = 96;
constexpr int64_t kMaxBlendedBytes = 2 * 1024 * 1024;
// Input channels for each member of the team from which on the members divide these for the weight gradient, instead of
// the tiles: each then transforms all of the gradient, but there is one set of sums instead of one for each.
constexpr int64_t kMemberChannels = 128;

// Backward of one call: sizes, regions, and the work on one block of tiles.
//
// Weight gradient: at each point the product of the transformed input tiles and the transformed gradient, summed over
// all blocks, and transformed back to 3x3 at the end. Data gradient: the convolution of the gradient with the mirrored
// filter, one panel of input channels at a time, masked and written while the panel's products are still in cache.
template <class Filter, class T>
struct Conv3x3Backward {
  using Real = RealOf<T>;
  using Block = RegisterBlock<T>;
  static constexpr int64_t columns = Block::columns;
  static constexpr int64_t points = kPoints<Filter>;
  static constexpr int64_t tile_pixels = kTilePixels<Filter>;

  const BnReluConv3x3Backward<T>& args;
  const int64_t channels, outputs;
  const int64_t input_panels;   // of columns input channels
  const int64_t output_panels;  // of columns output channels
  const int64_t weight_rows;    // channels, rounded up to whole register blocks
  const TileGrid grid;
  const NormalisedSource<T> source;
  const bool corrected;        // whether the gradient of the output is corrected when it is read
  const int64_t block;         // tiles at a time of the data gradient
  const int64_t weight_block;  // and of the weight gradient, a multiple of the former
  const int64_t blended_stride;
  ScratchLayout shared, own;
  const int64_t weight_stride;        // between the points of a panel of weights
  const int64_t sums_stride;          // and of the sums of the weight gradient
  const bool by_channels;             // whether members divide the input channels for the weight gradient
  const Region<T> packed;             // [input_panels][points][weight_stride] of [panel_rows of outputs][columns]
  const InputTiles<T, Filter> input;  // of a slice of y, for the weight gradient
  const Region<T> blended;            // A g A^T, [points][blended_stride] of [output_panels][weight_block][columns]
  const Region<T> pairs;              // [weight_block / 2][input.row][2]: a point's tiles, if products are of pairs
  const Region<Real>
      grad_weight;  // [points][sums_stride] of [output_panels][weight_rows][columns]; shared if by_channels
  const InputTiles<T, Filter> grad_output;  // of the gradient, for the data gradient
  const PanelProducts<T, Filter> products;
  const TilePixels<Filter> pixels;  // in grad_input and in input
  const NextPixels<Filter> slice_pixels, next_input, next_grad;
  const BnSumsScratch<T> sums;

  Conv3x3Backward(const BnReluConv3x3Backward<T>& arguments, const TileGrid& tiles, int threads)
      : args(arguments),
        channels(args.input.c),
        outputs(args.grad_output.grad.c),
        input_panels(round_up(channels, columns) / columns),
        output_panels(round_up(outputs, columns) / columns),
        weight_rows(round_up<int64_t>(channels, kWeightRows)),
        grid(tiles),
        source{args.input, args.norm},
        corrected(args.grad_output.input.data),
        block(block_tiles<T, Filter>(outputs)),
        weight_block(args.grad_weight ? tiles_of_weight_gradient() : block),
        blended_stride(output_panels * weight_block * columns + kTilePadding),
        weight_stride(PanelProducts<T, Filter>::weight_stride(outputs)),
        sums_stride(output_panels * weight_rows * columns + kTilePadding),
        by_channels(threads > 1 && channels >= threads * kMemberChannels),
        packed(shared.add<T>(input_panels * points * weight_stride)),
        input(own, args.grad_weight ? smaller(kSliceChannels, channels) : 0, weight_block),
        blended(own.add<T>(args.grad_weight ? points * blended_stride : 0)),
        pairs(own.add<T>(kPair<T> > 1 && args.grad_weight ? weight_block * input.row : 0)),
        grad_weight((by_channels ? shared : own).template add<Real>(args.grad_weight ? points * sums_stride : 0)),
        grad_output(own, outputs, block),
        products(own, block),
        pixels(own, block),
        slice_pixels(own, weight_block),
        next_input(own, block),
        next_grad(own, block),
        sums(own, channels) {}

  int64_t tiles_of_weight_gradient() const {
    const int64_t tile_bytes = points * output_panels * columns * static_cast<int64_t>(sizeof(T));
    const int64_t fitting = smaller(kMaxWeightTiles, kMaxBlendedBytes / tile_bytes) / block * block;
    return fitting < block ? block : fitting;
  }

  // Calls body(source) with the source of the gradient of the output.
  template <class Body>
  LADDERSEG_INLINE void with_gradient(const Body& body) const {
    if (corrected)
      body(GradientSource<T, true>(args.grad_output));
    else
      body(GradientSource<T, false>(args.grad_output));
  }

  // Packs the mirrored filters, transformed, for the output channels `mine`.
  void pack(char* scratch, Range mine) const {
    for (int64_t c = 0; c < channels; c += columns)
      pack_transformed<Filter, true>(args.weight + c * 9, channels * 9, outputs, 9, smaller(columns, channels - c),
                                     mine, packed.in(scratch) + c / columns * points * weight_stride, weight_stride);
  }

  void start(char* base) const {
    sums.start(base, channels);
    if (!args.grad_weight) return;
    std::memset(blended.in(base), 0, points * blended_stride * sizeof(T));
  }

  void clear_weight_gradient(Real* weight_sums, Range mine) const {
    for (int64_t i = 0; i < points; ++i)
      for (int64_t panel = 0; panel < output_panels; ++panel)
        for (int64_t c = mine.begin; c < round_up<int64_t>(mine.end, kWeightRows); ++c)
          std::memset(weight_sums + i * sums_stride + (panel * weight_rows + c) * columns, 0, columns * sizeof(Real));
  }

  // Adds the sums over tiles [first, first + count) for the input channels `mine`, which begin with a slice.
  void add_weight_gradient(char* base, Real* weight_sums, int64_t first, int64_t count, Range mine) const {
    with_gradient([&](const auto& gradient) {
      for_each_run(grid, first, count, [&](const TileRun& run, int64_t offset) {
        for_each_channel_vector<T>(outputs, [&](int64_t k, auto v) {
          T* to = blended.in(base) + (k / columns * weight_block + offset) * columns + k % columns;
          transform_gradient<Filter, decltype(v)>(gradient, grid, run, args.grad_first_row, k, to, columns,
                                                  blended_stride);
        });
      });
    });
    if constexpr (kPair<T> > 1)
      for (int64_t i = 0; i < points * output_panels; ++i) {
        T* const panel =
            blended.in(base) + i / output_panels * blended_stride + i % output_panels * weight_block * columns;
        if (count % 2) std::memset(panel + count * columns, 0, columns * sizeof(T));
        pair_panel(panel, count);
      }
    const int64_t read = slice_pixels.fill(base, args.input, grid, args.input_first_row, first, count);
    for (int64_t from = mine.begin; from < mine.end; from += kSliceChannels) {
      const int64_t width = smaller(kSliceChannels, mine.end - from);
      input.fill(base, source, grid, args.input_first_row, first, count, from, width);
      for (int64_t i = 0; i < points; ++i) {
        if (from + width < mine.end)
          prefetch_pixels(channel_range(args.input, from + width, kSliceChannels), slice_pixels.numbers.in(base), read,
                          i, points);
        if constexpr (kPair<T> > 1) pair_tiles(base, i, count, width);
        for (int64_t panel = 0; panel < output_panels; ++panel) {
          const T* b = blended.in(base) + i * blended_stride + panel * weight_block * columns;
          Real* to = weight_sums + i * sums_stride + (panel * weight_rows + from) * columns;
          for (int64_t c = 0; c < width; c += kWeightRows)
            if constexpr (kPair<T> > 1)
              multiply<true, kWeightRows>(count, pairs.in(base) + 2 * c, 2, input.row, b, to + c * columns, columns);
            else
              multiply<true, T, kWeightRows>(count, input.tiles.in(base) + i * input.point_stride + c, 1, input.row, b,
                                             to + c * columns, columns);
        }
      }
    }
  }

  // Pairs the slice's tiles at point i, `width` channels of each.
  LADDERSEG_INLINE void pair_tiles(char* base, int64_t i, int64_t count, int64_t width) const {
    T* const tiles = input.tiles.in(base) + i * input.point_stride;
    if (count % 2) std::memset(tiles + count * input.row, 0, input.row * sizeof(T));
    for (int64_t t = 0; t < count; t += 2)
      pair_rows(tiles + t * input.row, tiles + (t + 1) * input.row, width, pairs.in(base) + t * input.row);
  }

  // Writes tiles [first, first + count). Of the tiles before `last` that come a whole block of the weight gradient
  // later, it prefetches what that reads first.
  void write_data_gradient(char* scratch, char* base, int64_t first, int64_t count, int64_t last) const {
    with_gradient([&](const auto& gradient) {
      grad_output.fill(base, gradient, grid, args.grad_first_row, first, count, 0, outputs);
    });
    pixels.fill(base, grid, args.input_first_row, args.input.h, first, count);
    const int64_t later = first + weight_block, tiles = smaller(block, last - later);
    const auto &grad = args.grad_output.grad, &x = args.grad_output.input;
    const int64_t grads = next_grad.fill(base, grad, grid, args.grad_first_row, later, tiles);
    const int64_t inputs = next_input.fill(base, args.input, grid, args.input_first_row, later, tiles);
    for (int64_t panel = 0; panel < input_panels; ++panel) {
      const T* weight = packed.in(scratch) + panel * points * weight_stride;
      const int64_t from = panel * columns;
      const auto read = channel_range(args.input, from, columns);
      const auto written = channel_range(args.grad_input, from, columns);
      products.run(base, grad_output, count, weight, [&](int64_t part, int64_t parts) {
        prefetch_pixels(read, pixels.second.in(base), tile_pixels * count, part, parts);
        prefetch_pixels(written, pixels.first.in(base), tile_pixels * count, part, parts);
        const int64_t all_part = panel * parts + part, all_parts = input_panels * parts;
        prefetch_pixels(grad, next_grad.numbers.in(base), grads, all_part, all_parts);
        if (corrected) prefetch_pixels(x, next_grad.numbers.in(base), grads, all_part, all_parts);
        if (args.grad_weight && !by_channels)
          prefetch_pixels(channel_range(args.input, 0, kSliceChannels), next_input.numbers.in(base), inputs, all_part,
                          all_parts);
      });
      for_each_channel_vector<T>(written.c,
                                 [&](int64_t j, auto v) { backward_elements<decltype(v)>(base, from, j, count); });
    }
    sums.flush(base, channels);
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
    V masked = {}, centred = {};
    for (int64_t t = 0; t < count; ++t) {
      const int64_t* written = pixels.first.in(base) + tile_pixels * t;
      const int64_t* read = pixels.second.in(base) + tile_pixels * t;
      V g[tile_pixels];
      transform_output<Filter>(products.products.in(base) + t * columns + j, products.point_stride, g);
#pragma GCC unroll 16
      for (int64_t i = 0; i < tile_pixels; ++i) {
        if (written[i] < 0) continue;
        const V d = load_as<V>(x + read[i] * args.input.pixel_stride) - mean;
        const V m = relu_mask(d * scale + shift, g[i]);
        store_as<V>(to + written[i] * args.grad_input.pixel_stride, scale * m);
        masked += m;
        centred += m * d;
      }
    }
    store_as<V>(sums.masked.in(base) + c, load_as<V>(sums.masked.in(base) + c) + masked);
    store_as<V>(sums.centred.in(base) + c, load_as<V>(sums.centred.in(base) + c) + centred);
  }

  // Adds `sets` sets of sums in their order and transforms them back to 3x3, for the input channels `mine`.
  template <class Sums>
  void finish_weight(int sets, const Sums& sums_of, Range mine) const {
    using Vector = Simd<double>::Vector;
    constexpr int64_t lanes = Simd<double>::lanes;
    for (int64_t k = 0; k < outputs; k += lanes)
      for (int64_t c = mine.begin; c < mine.end; ++c) {
        Vector sum[points] = {}, grad[9];
        for (int64_t i = 0; i < points; ++i) {
          const int64_t at = i * sums_stride + (k / columns * weight_rows + c) * columns + k % columns;
          for (int set = 0; set < sets; ++set) sum[i] += load_widened<Vector>(sums_of(set) + at);
        }
        transform_weight_gradient<Filter>(sum, grad);
        for (int64_t lane = 0; lane < smaller(lanes, outputs - k); ++lane)
          for (int tap = 0; tap < 9; ++tap)
            args.grad_weight[((k + lane) * channels + c) * 9 + tap] = static_cast<Real>(grad[tap][lane]);
      }
  }
};

template <class Filter, class T>
void backward(const BnReluConv3x3Backward<T>& args, const TileGrid& grid, int threads) {
  const Conv3x3Backward<Filter, T> work(args, grid, threads);
  char* const scratch = reserve_scratch(work.shared.bytes + threads * work.own.bytes);
  const auto base_of = [&](int member) { return scratch + work.shared.bytes + member * work.own.bytes; };
  const auto weight_sums_of = [&](int member) {
    return work.grad_weight.in(work.by_channels ? scratch : base_of(member));
  };

  parallel(threads, [&](int member, int team) {
    char* const base = base_of(member);
    work.pack(scratch, split(work.outputs, member, team, kPair<T>));
    work.start(base);
    const Range range = split(work.grid.count(), member, team);
    const Range mine = work.by_channels ? split(work.channels, member, team, kSliceChannels) : Range{0, work.channels};
    if (args.grad_weight) work.clear_weight_gradient(weight_sums_of(member), mine);
    barrier(team);
    if (args.grad_weight && work.by_channels)
      for (int64_t first = 0; first < work.grid.count(); first += work.weight_block)
        work.add_weight_gradient(base, weight_sums_of(member), first,
                                 smaller(work.weight_block, work.grid.count() - first), mine);
    for (int64_t begin = range.begin; begin < range.end; begin += work.weight_block) {
      const int64_t end = smaller(range.end, begin + work.weight_block);
      if (args.grad_weight && !work.by_channels)
        work.add_weight_gradient(base, weight_sums_of(member), begin, end - begin, mine);
      for (int64_t first = begin; first < end; first += work.block)
        work.write_data_gradient(scratch, base, first, smaller(work.block, end - first), range.end);
    }
    barrier(team);
    if (args.grad_weight)
      work.finish_weight(work.by_channels ? 1 : team, weight_sums_of, split(work.channels, member, team));
    if (member == 0) work.sums.finish(team, base_of, work.channels, args.sums);
  });
}

}  // namespace

template <class T>
void bn_relu_conv3x3_backward(const BnReluConv3x3Backward<T>& args, int threads) {
  const auto& out = args.grad_input;
  const TileGrid grid = conv3x3_tiles(out.n, out.h, out.w, args.dilation, out.c, args.grad_output.grad.c, rounds<T>);
  with_filter(grid, [&](auto filter) { backward<decltype(filter)>(args, grid, threads); });
}

LADDERSEG_INSTANTIATE(bn_relu_conv3x3_backward)

}  // namespace LADDERSEG_ISA
}  // namespace ladderseg
