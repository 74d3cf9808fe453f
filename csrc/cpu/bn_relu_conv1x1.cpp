// BN-ReLU-conv1x1, forward and backward, tile by tile: see ladderseg/bn_relu_conv1x1.h.
#include <cstring>

#include "bn_sums.h"
#include "conv1x1_tile.h"
#include "conv1x1_weight_gradient.h"
#include "operators.h"
#include "parallel.h"
#include "statistics.h"

namespace ladderseg {
namespace LADDERSEG_ISA {

template <class T>
void bn_relu_conv1x1_forward(const BnReluConv1x1Forward<T>& args, int threads) {
  const int64_t channels = args.input.c, outputs = args.output.c;
  constexpr int64_t columns = RegisterBlock<T>::columns;
  const bool want_statistics = args.output_mean != nullptr;
  ScratchLayout shared;
  const Region<T> packed = shared.add<T>(round_up(outputs, columns) * panel_rows<T>(channels));
  const Region<int64_t> counts = shared.add<int64_t>(threads);
  ScratchLayout own;
  const ProjectionTile<T> tile(own, channels, outputs);
  const StatisticsScratch<T> statistics(own, outputs);
  char* const scratch = reserve_scratch(shared.bytes + threads * own.bytes);
  const auto base_of = [&](int member) { return scratch + shared.bytes + member * own.bytes; };

  parallel(threads, [&](int member, int team) {
    char* const base = base_of(member);
    const Range mine = split(tile.panels, member, team);
    pack_transposed(args.weight, outputs, channels, mine.begin, mine.end, packed.in(scratch));
    barrier(team);

    RunningStatistics running = statistics.start(base);
    const Range range = split(args.input.pixels(), member, team, RegisterBlock<T>::rows);
    for (int64_t p = range.begin; p < range.end; p += kTilePixels) {
      const int64_t pixels = smaller(kTilePixels, range.end - p);
      const int64_t next = smaller(kTilePixels, range.end - p - pixels);
      tile.run(base, args.input.pixel(p), args.input.pixel_stride, pixels, next, args.norm, packed.in(scratch),
               args.output.pixel(p), args.output.pixel_stride,
               [&](int64_t m, int64_t count, const RealOf<T>* product) __attribute__((always_inline)) {
                 copy_products(product, pixels, count, args.output.pixel(p) + m, args.output.pixel_stride);
                 if (want_statistics) statistics.add_part(base, product, pixels, columns, m, count);
               });
      if (want_statistics) statistics.merge_tile(running, base, pixels, outputs);
    }
    if (!want_statistics) return;
    counts.in(scratch)[member] = running.count;
    barrier(team);
    if (member == 0)
      finish_statistics(team, counts.in(scratch), base_of, statistics.mean, statistics.deviation, outputs,
                        args.output_mean, args.output_variance);
  });
}

// Backward of one call: sizes, regions, and the work on one tile.
//
// A tile goes through the input channels in blocks of one register block's columns. Per block: the gradient of y as
// a product, mask and y from x, grad_input and sums, and the block's part of the weight gradient. So at any time
// a member holds one tile of grad_output, one block of g and one of y.
template <class T>
struct Conv1x1Backward {
  using Real = RealOf<T>;
  using Block = RegisterBlock<T>;
  using Vector = typename Simd<T>::Vector;
  static constexpr int64_t columns = Block::columns;

  const BnReluConv1x1Backward<T>& args;
  const int64_t channels, outputs;
  const int64_t blocks;  // of input channels
  const int64_t padded;  // channels, rounded up to whole blocks
  const int64_t depth;   // outputs, rounded up to whole rows of a panel
  ScratchLayout shared, own;
  const Region<T> packed;                 // weight as panels [blocks][depth][columns]
  const Region<Real> mean, scale, shift;  // [padded]
  const GradientTile<T> grad_output;
  const Region<Real> g;                  // [kTilePixels, columns]
  const Region<T> y, x_edge, grad_edge;  // likewise
  const WeightGradient<T> grad_weight;
  const BnSumsScratch<T> sums;

  explicit Conv1x1Backward(const BnReluConv1x1Backward<T>& arguments)
      : args(arguments),
        channels(args.input.c),
        outputs(args.grad_output.grad.c),
        blocks(round_up(channels, columns) / columns),
        padded(blocks * columns),
        depth(panel_rows<T>(outputs)),
        packed(shared.add<T>(padded * depth)),
        mean(shared.add<Real>(padded)),
        scale(shared.add<Real>(padded)),
        shift(shared.add<Real>(padded)),
        grad_output(own, outputs),
        g(own.add<Real>(kTilePixels * columns)),
        y(own.add<T>(kTilePixels * columns)),
        x_edge(own.add<T>(kTilePixels * columns)),
        grad_edge(own.add<T>(kTilePixels * columns)),
        grad_weight(own, args.grad_weight ? outputs : 0, channels),
        sums(own, padded) {}

  // weight [M, C] as panels [C / columns][M][columns], zeros beyond C; likewise the norm's vectors.
  LADDERSEG_INLINE void pack(char* scratch, Range mine) const {
    for (int64_t block = mine.begin; block < mine.end; ++block) {
      const int64_t first = block * columns;
      const int64_t width = smaller(columns, channels - first);
      T* const panel = packed.in(scratch) + block * depth * columns;
      for (int64_t m = 0; m < depth; ++m)
        if (m < outputs && width == columns)
          copy_elements(args.weight + m * channels + first, columns, panel + m * columns);
        else
          for (int64_t j = 0; j < columns; ++j)
            put(panel[m * columns + j], m < outputs && j < width ? args.weight[m * channels + first + j] : Real(0));
      pair_panel(panel, depth);
      copy_padded(args.norm.mean + first, width, mean.in(scratch) + first);
      copy_padded(args.norm.scale + first, width, scale.in(scratch) + first);
      copy_padded(args.norm.shift + first, width, shift.in(scratch) + first);
    }
  }

  template <class Element>
  static LADDERSEG_INLINE void copy_padded(const Element* from, int64_t width, Element* to) {
    for (int64_t j = 0; j < columns; ++j) to[j] = j < width ? from[j] : Element{};
  }

  LADDERSEG_INLINE void start(char* base) const {
    sums.start(base, padded);
    grad_weight.start(base);
  }

  // Computes mask, grad_input, sums and y of `pixels` x `columns` elements.
  template <bool accumulate>
  LADDERSEG_INLINE void backward_elements(char* scratch, char* base, int64_t first, int64_t pixels, const T* x,
                                          int64_t x_row, T* grad_input, int64_t grad_input_row) const {
    for (int64_t j = 0; j < columns; j += Simd<T>::lanes) {
      const Vector mean_c = load(mean.in(scratch) + first + j);
      const Vector scale_c = load(scale.in(scratch) + first + j);
      const Vector shift_c = load(shift.in(scratch) + first + j);
      Vector masked = {}, centred = {};
      const Real* grad = g.in(base) + j;
      T* normalised = y.in(base) + j;
      for (int64_t p = 0; p < pixels; ++p) {
        T* to = grad_input + p * grad_input_row + j;
        const Vector d = load(x + p * x_row + j) - mean_c;
        const Vector value = d * scale_c + shift_c;
        const Vector m = relu_mask(value, load(grad + p * columns));
        store(normalised + p * columns, relu(value));
        store(to, (accumulate ? load(to) : Vector{}) + scale_c * m);
        masked += m;
        centred += m * d;
      }
      Real* sum_masked = sums.masked.in(base) + first + j;
      Real* sum_centred = sums.centred.in(base) + first + j;
      store(sum_masked, load(sum_masked) + masked);
      store(sum_centred, load(sum_centred) + centred);
    }
  }

  // A block of channels at the edge of the map, or without a grad_input to write to, works on copies.
  template <bool accumulate>
  LADDERSEG_INLINE void backward_edge(char* scratch, char* base, int64_t first, int64_t first_pixel,
                                      int64_t pixels) const {
    const int64_t width = smaller(columns, channels - first);
    const bool want_input = args.grad_input.data != nullptr;
    T* x = x_edge.in(base);
    T* grad = grad_edge.in(base);
    for (int64_t p = 0; p < pixels; ++p) {
      copy_padded(args.input.pixel(first_pixel + p) + first, width, x + p * columns);
      if (want_input && accumulate)
        copy_padded(args.grad_input.pixel(first_pixel + p) + first, width, grad + p * columns);
      else
        std::memset(grad + p * columns, 0, columns * sizeof(T));
    }
    backward_elements<accumulate>(scratch, base, first, pixels, x, columns, grad, columns);
    if (!want_input) return;
    for (int64_t p = 0; p < pixels; ++p)
      std::memcpy(args.grad_input.pixel(first_pixel + p) + first, grad + p * columns, width * sizeof(T));
  }

  template <bool accumulate>
  LADDERSEG_INLINE void tile(char* scratch, char* base, int64_t first_pixel, int64_t pixels,
                             int64_t next_pixels) const {
    const int64_t rows = round_up<int64_t>(pixels, Block::rows);
    grad_output.load(base, args.grad_output, first_pixel, pixels);
    const T* const go = grad_output.in(base);
    for (int64_t block = 0; block < blocks; ++block) {
      const int64_t first = block * columns;
      const T* panel = packed.in(scratch) + block * depth * columns;
      for (int64_t p = 0; p < rows; p += Block::rows) {
        prefetch_next(first_pixel, pixels, next_pixels, block, p / Block::rows, rows / Block::rows);
        multiply<false>(outputs, go + p * grad_output.row, grad_output.row, 1, panel, g.in(base) + p * columns,
                        columns);
      }
      if (first + columns <= channels && args.grad_input.data)
        backward_elements<accumulate>(scratch, base, first, pixels, args.input.pixel(first_pixel) + first,
                                      args.input.pixel_stride, args.grad_input.pixel(first_pixel) + first,
                                      args.grad_input.pixel_stride);
      else
        backward_edge<accumulate>(scratch, base, first, first_pixel, pixels);
      const T* const next_panel = block + 1 < blocks ? panel + depth * columns : nullptr;
      if (args.grad_weight) grad_weight.add(base, block, grad_output, y.in(base), pixels, next_panel);
    }
    sums.flush(base, padded);
  }

  // Prefetches part `part` of `parts` of the data read after `block`: the next block of this tile or the first of the
  // next tile, and some of the next tile's grad_output.
  LADDERSEG_INLINE void prefetch_next(int64_t first_pixel, int64_t pixels, int64_t next_pixels, int64_t block,
                                      int64_t part, int64_t parts) const {
    const bool last = block + 1 == blocks;
    const int64_t pixel = last ? first_pixel + pixels : first_pixel, count = last ? next_pixels : pixels;
    const int64_t channel = last ? 0 : (block + 1) * columns, width = smaller(columns, channels - channel);
    const auto rows = [&](const auto& map, int64_t first) {
      prefetch_rows(map.pixel(pixel) + first, map.pixel_stride, count, width, part, parts);
    };
    rows(args.input, channel);
    if (args.grad_input.data) rows(args.grad_input, channel);
    const auto outputs_of = [&](const FeatureMap<const T>& map) {
      prefetch_rows(map.pixel(first_pixel + pixels), map.pixel_stride, next_pixels, outputs, block * parts + part,
                    blocks * parts);
    };
    outputs_of(args.grad_output.grad);
    if (args.grad_output.input.data) outputs_of(args.grad_output.input);
  }
};

template <class T>
void bn_relu_conv1x1_backward(const BnReluConv1x1Backward<T>& args, int threads) {
  const Conv1x1Backward<T> work(args);
  char* const scratch = reserve_scratch(work.shared.bytes + threads * work.own.bytes);
  const auto base_of = [&](int member) { return scratch + work.shared.bytes + member * work.own.bytes; };

  parallel(threads, [&](int member, int team) {
    char* const base = base_of(member);
    work.pack(scratch, split(work.blocks, member, team));
    work.start(base);
    barrier(team);
    const Range range = split(args.input.pixels(), member, team, RegisterBlock<T>::rows);
    for (int64_t p = range.begin; p < range.end; p += kTilePixels) {
      const int64_t pixels = smaller(kTilePixels, range.end - p);
      const int64_t next = smaller(kTilePixels, range.end - p - pixels);
      if (args.accumulate)
        work.template tile<true>(scratch, base, p, pixels, next);
      else
        work.template tile<false>(scratch, base, p, pixels, next);
    }
    barrier(team);
    if (args.grad_weight) work.grad_weight.finish(team, base_of, split(work.outputs, member, team), args.grad_weight);
    // The totals are padded, the caller's arrays are not: finish() reads the first `channels` of each.
    if (member == 0) work.sums.finish(team, base_of, work.channels, args.sums);
  });
}

template <class T>
void bn_relu_conv1x1_weight(const BnReluConv1x1Weight<T>& args, int threads) {
  constexpr int64_t columns = RegisterBlock<T>::columns;
  const int64_t channels = args.input.c, outputs = args.grad_output.grad.c;
  ScratchLayout own;
  const GradientTile<T> grad_output(own, outputs);
  const Region<T> y = own.add<T>(kTilePixels * columns);
  const WeightGradient<T> grad_weight(own, outputs, channels);
  char* const scratch = reserve_scratch(threads * own.bytes);
  const auto base_of = [&](int member) { return scratch + member * own.bytes; };

  parallel(threads, [&](int member, int team) {
    char* const base = base_of(member);
    grad_weight.start(base);
    const Range range = split(args.input.pixels(), member, team, RegisterBlock<T>::rows);
    for (int64_t p = range.begin; p < range.end; p += kTilePixels) {
      const int64_t pixels = smaller(kTilePixels, range.end - p);
      const int64_t next = smaller(kTilePixels, range.end - p - pixels);
      grad_output.load(base, args.grad_output, p, pixels);
      for (int64_t block = 0; block < grad_weight.blocks; ++block) {
        const int64_t first = block * columns, width = smaller(columns, channels - first);
        const Norm<RealOf<T>> norm{args.norm.mean + first, args.norm.scale + first, args.norm.shift + first};
        for (int64_t i = 0; i < pixels; ++i) {
          T* const to = y.in(base) + i * columns;
          const T* const x = args.input.pixel(p + i) + first;
          if (args.centre)
            for_each_channel_vector<T>(width, [&](int64_t j, auto zero) {
              using V = decltype(zero);
              const V d = load_as<V>(x + j) - load_as<V>(norm.mean + j);
              const V value = relu(d * load_as<V>(norm.scale + j) + load_as<V>(norm.shift + j));
              store_as<V>(to + j, value - load_as<V>(args.centre + first + j));
            });
          else
            bn_relu_pixel(width, x, norm, to);
          for (int64_t j = width; j < columns; ++j) to[j] = T{};
        }
        const auto prefetch_next = [&](const FeatureMap<const T>& map) {
          if (map.data) prefetch_rows(map.pixel(p + pixels), map.pixel_stride, next, map.c, block, grad_weight.blocks);
        };
        prefetch_next(args.input);
        prefetch_next(args.grad_output.grad);
        prefetch_next(args.grad_output.input);
        grad_weight.add(base, block, grad_output, y.in(base), pixels);
      }
    }
    barrier(team);
    grad_weight.finish(team, base_of, split(outputs, member, team), args.grad_weight);
  });
}

LADDERSEG_INSTANTIATE(bn_relu_conv1x1_forward)
LADDERSEG_INSTANTIATE(bn_relu_conv1x1_backward)
LADDERSEG_INSTANTIATE(bn_relu_conv1x1_weight)

}  // namespace LADDERSEG_ISA
}  // namespace ladderseg
