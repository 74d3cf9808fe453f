// Launches of the stem: see ladderseg/stem.h.
//
// The convolution's result x exists for one strip of rows at a time, with rows of halo for the windows of the pooling
// that reach out of the strip. Each function convolves every strip once.
#include <algorithm>
#include <vector>

#include "../kernels/stem_convolution.h"
#include "bn_relu_maxpool.h"
#include "bn_sums.h"
#include "channel_statistics.h"
#include "columns.h"
#include "operators.h"
#include "products.h"
#include "statistics.h"
#include "sum_parts.h"

namespace ladderseg::cuda {
namespace {

// Rows of x around a strip that windows reach: every window that reaches the strip is whole.
constexpr int64_t kHaloAbove = 1, kHaloBelow = 2;

// Some rows of some images of x: rows [row, row + rows), and with halo [outer_row, outer_row + outer_rows).
struct Strip {
  int64_t image, images, row, rows, outer_row, outer_rows;

  int64_t outer_pixels(int64_t width) const { return images * outer_rows * width; }
};

int64_t half_up(int64_t value) { return (value + 1) / 2; }

// The stem's maps other than its result.
class Stem {
 public:
  Stem(const Queue& queue, const Images<void>& images, const void* weight, int64_t outputs, int64_t strip_bytes)
      : queue_(queue), images_(images), weight_(weight), outputs_(outputs) {
    const int64_t max_pixels = std::max<int64_t>(1, strip_bytes / (outputs * element_bytes(queue.element)));
    divide(max_pixels);
    int64_t pixels = 0;
    for (const Strip& strip : strips_) pixels = std::max(pixels, strip.outer_pixels(width()));
    x_ = queue.allocate(pixels * outputs * element_bytes(queue.element));
  }

  int64_t height() const { return half_up(images_.h); }
  int64_t width() const { return half_up(images_.w); }
  const std::vector<Strip>& strips() const { return strips_; }

  // Memory for the strips' rows without halo.
  void* allocate_rows() const {
    int64_t pixels = 0;
    for (const Strip& strip : strips_) pixels = std::max(pixels, strip.images * strip.rows * width());
    return queue_.allocate(pixels * outputs_ * element_bytes(queue_.element));
  }

  FeatureMap<void> rows(const Strip& strip, void* data) const {
    return {data, strip.images, strip.rows, width(), outputs_, outputs_};
  }

  // x with halo.
  FeatureMap<const void> convolve(const Strip& strip) const {
    const FeatureMap<void> output{x_, strip.images, strip.outer_rows, width(), outputs_, outputs_};
    const int bytes = real_bytes(queue_.element);
    const StemTiles tiles = this->tiles(output.h, output.w, kStemForwardRows, stem_tile_columns(bytes));
    const Images<void> images = images_of(strip);
    const StemForwardArguments<void, void> arguments{images,          weight_, output,
                                                     strip.outer_row, tiles,   wide(queue_, output)};
    const bool tensor = multiplies_by_tensor_cores(queue_);
    Launch call{"stem_convolution_forward",
                tensor ? "stem_convolution_forward_tensor" : "stem_convolution_forward",
                {static_cast<unsigned>(output.n * tiles.down * tiles.across), groups(outputs_, kStemOutputs)},
                {static_cast<unsigned>(tensor ? kProductThreads : kStemForwardThreads)}};
    call.buffers = {buffer(queue_, output, Access::write, "x"), weight_buffer()};
    add_images(strip, strip.outer_row, strip.outer_rows, call.buffers);
    call.operations = operations(output.pixels());
    launch(queue_, call, &arguments);
    return {output.data, output.n, output.h, output.w, output.c, output.pixel_stride};
  }

  // Adds to parts [parts][K, C, 7, 7] of the weight's gradient, which the first strip overwrites.
  void weight_gradient(const Strip& strip, const FeatureMap<void>& grad, int64_t parts, void* partial,
                       bool accumulate) const {
    const StemTiles tiles = weight_tiles(strip);
    const int64_t tiles_per_part = std::max<int64_t>(1, ceil_divide(grad.n * tiles.down * tiles.across, parts));
    const int64_t count = outputs_ * images_.c * kStemTaps;
    const StemWeightArguments<void, void> arguments{
        images_of(strip), {grad.data, grad.n, grad.h, grad.w, grad.c, grad.pixel_stride},
        strip.row,        tiles,
        tiles_per_part,   partial,
        accumulate,       wide(queue_, grad)};
    Launch call{"stem_convolution_weight",
                "stem_convolution_weight",
                {static_cast<unsigned>(parts), groups(outputs_, kStemOutputs), groups(images_.c, kStemWeightChannels)},
                {kStemWeightThreads}};
    call.buffers = {buffer(queue_, grad, Access::read, "grad"),
                    vector_buffer(queue_, partial, parts * count, "partial weight gradients",
                                  accumulate ? Access::read_write : Access::write)};
    add_images(strip, strip.row, strip.rows, call.buffers);
    call.operations = operations(grad.pixels());
    launch(queue_, call, &arguments);
  }

  // As many parts as keep the device busy.
  int64_t weight_parts() const {
    int64_t most = 1;
    for (const Strip& strip : strips_) {
      const StemTiles tiles = weight_tiles(strip);
      most = std::max<int64_t>(most, strip.images * tiles.down * tiles.across);
    }
    constexpr int64_t kLeastTiles = 4;  // of a part
    const int64_t blocks = int64_t(groups(outputs_, kStemOutputs)) * groups(images_.c, kStemWeightChannels);
    return ladderseg::cuda::weight_parts(queue_, most, blocks, 1, kLeastTiles).count;
  }

  // Adds the gradient of the images to `grad_images` [N, H, W, C].
  void image_gradient(const Strip& strip, const FeatureMap<void>& grad, const FeatureMap<void>& grad_images) const {
    const int64_t first = std::max<int64_t>(0, kStemStride * strip.row - kStemPadding);
    const int64_t end = std::min(images_.h, kStemStride * (strip.row + strip.rows - 1) + kStemPadding + 1);
    const int bytes = element_bytes(queue_.element);
    FeatureMap<void> images = grad_images;
    images.data =
        static_cast<char*>(grad_images.data) + strip.image * images_.h * images_.w * grad_images.pixel_stride * bytes;
    images.n = strip.images;
    const StemTiles tiles = this->tiles(end - first, images_.w, kStemDataRows, kStemDataColumns);
    const StemDataArguments<void, void> arguments{{grad.data, grad.n, grad.h, grad.w, grad.c, grad.pixel_stride},
                                                  strip.row,
                                                  weight_,
                                                  images,
                                                  first,
                                                  tiles,
                                                  wide(queue_, grad)};
    Launch call{"stem_convolution_data",
                "stem_convolution_data",
                {static_cast<unsigned>(images.n * tiles.down * tiles.across), static_cast<unsigned>(images_.c)},
                {kStemDataRows * kStemDataColumns}};
    call.buffers = {buffer(queue_, grad, Access::read, "grad"), weight_buffer(),
                    buffer(queue_, images, Access::read_write, "grad_images")};
    call.operations = operations(grad.pixels());
    launch(queue_, call, &arguments);
  }

 private:
  // Groups of whole images, or strips of one image that begin with an even row, of about `max_pixels`; at least one.
  void divide(int64_t max_pixels) {
    const int64_t pixels = height() * width();
    if (images_.n * pixels == 0) {
      strips_.push_back({});
    } else if (pixels <= max_pixels) {
      const int64_t group = max_pixels / pixels;
      for (int64_t image = 0; image < images_.n; image += group)
        strips_.push_back({image, std::min(group, images_.n - image), 0, height(), 0, height()});
    } else {
      const int64_t pairs = half_up(height());
      const int64_t count = std::min(pairs, ceil_divide(pixels, max_pixels));
      for (int64_t image = 0; image < images_.n; ++image)
        for (int64_t i = 0; i < count; ++i) add_rows(image, 2 * (pairs * i / count), 2 * (pairs * (i + 1) / count));
    }
  }

  void add_rows(int64_t image, int64_t begin, int64_t end) {
    end = std::min(height(), end);
    const int64_t outer_begin = std::max<int64_t>(0, begin - kHaloAbove);
    const int64_t outer_end = std::min(height(), end + kHaloBelow);
    strips_.push_back({image, 1, begin, end - begin, outer_begin, outer_end - outer_begin});
  }

  static StemTiles tiles(int64_t rows, int64_t columns, int tile_rows, int tile_columns) {
    return {static_cast<int>(ceil_divide(rows, tile_rows)), static_cast<int>(ceil_divide(columns, tile_columns))};
  }
  StemTiles weight_tiles(const Strip& strip) const {
    return tiles(strip.rows, width(), kStemWeightRows, stem_tile_columns(real_bytes(queue_.element)));
  }

  static unsigned groups(int64_t count, int64_t size) { return static_cast<unsigned>(ceil_divide(count, size)); }

  double operations(int64_t pixels) const { return 2.0 * kStemTaps * images_.c * outputs_ * pixels; }

  Buffer weight_buffer() const {
    return buffer(weight_, outputs_ * images_.c * kStemTaps * element_bytes(queue_.element), Access::read, "weight");
  }

  const char* address(int64_t image, int64_t row) const {
    return static_cast<const char*>(images_.data) +
           (image * images_.stride_n + row * images_.stride_h) * element_bytes(queue_.element);
  }

  Images<void> images_of(const Strip& strip) const {
    Images<void> images = images_;
    images.data = address(strip.image, 0);
    images.n = strip.images;
    return images;
  }

  // The image rows under these rows of x: of each channel of one image, or in one piece of several.
  void add_images(const Strip& strip, int64_t row, int64_t rows, std::vector<Buffer>& buffers) const {
    if (strip.images == 0) return;
    const int64_t bytes = element_bytes(queue_.element);
    const int64_t first = std::max<int64_t>(0, kStemStride * row - kStemPadding);
    const int64_t end = std::min(images_.h, kStemStride * (row + rows - 1) + kStemPadding + 1);
    const int64_t plane = (end - first - 1) * images_.stride_h + (images_.w - 1) * images_.stride_w + 1;
    const char* const data = address(strip.image, first);
    if (strip.images == 1 && images_.stride_c >= plane) {
      buffers.push_back(
          {data, images_.c, plane * bytes, images_.stride_c * bytes, static_cast<int>(Access::read), "images"});
      return;
    }
    const int64_t all = (strip.images - 1) * images_.stride_n + (images_.c - 1) * images_.stride_c + plane;
    buffers.push_back(buffer(data, all * bytes, Access::read, "images"));
  }

  const Queue& queue_;
  const Images<void>& images_;
  const void* const weight_;
  const int64_t outputs_;
  std::vector<Strip> strips_;
  void* x_;
};

// A map like `map`, of its images and rows.
template <class T>
FeatureMap<T> part(const Queue& queue, const FeatureMap<T>& map, int64_t image, int64_t images, int64_t row,
                   int64_t rows) {
  const int64_t offset = (image * map.h + row) * map.w * map.pixel_stride * element_bytes(queue.element);
  using Byte = std::conditional_t<std::is_const_v<T>, const char, char>;
  return {static_cast<Byte*>(map.data) + offset, images, rows, map.w, map.c, map.pixel_stride};
}

// The pooled gradient without its correction.
FeatureMap<const void> settled(const Queue& queue, const Gradient<void>& gradient) {
  const FeatureMap<const void>& grad = gradient.grad;
  if (!gradient.input.data) return grad;
  void* const data = queue.allocate(grad.pixels() * grad.c * element_bytes(queue.element));
  affine_correction(queue, {gradient, {data, grad.n, grad.h, grad.w, grad.c, grad.c}});
  return {data, grad.n, grad.h, grad.w, grad.c, grad.c};
}

// The backward of the strip's pooling: see bn_relu_maxpool_backward_in_parts. Rows of windows that reach the strip are
// those of its own rows and one more, whose window begins with the strip's last row, an odd one.
int64_t backward_pooling(const Queue& queue, const FeatureMap<const void>& pooled, const Strip& strip,
                         const FeatureMap<const void>& x, const Norm<void>& norm, const FeatureMap<void>& grad,
                         const MaxpoolCorrection& correction, void* partial_sums) {
  const int64_t first = strip.row / 2, last = std::min(half_up(strip.row + strip.rows) + 1, pooled.h);
  const int64_t above = strip.row - strip.outer_row;
  const FeatureMap<const void> windows = part(queue, pooled, strip.image, strip.images, first, last - first);
  return bn_relu_maxpool_backward_in_parts(queue, {windows, x, norm, grad, above, above, {}}, correction, partial_sums);
}

// Calls use(strip, gradient of x there) for every strip.
template <class Arguments, class Use>
void for_each_gradient(const Queue& queue, const Stem& stem, const Arguments& args, const Use& use) {
  const FeatureMap<const void> pooled = settled(queue, args.grad_output);
  const PartialSums unused = allocate_partial_sums(queue, kMaxReductionParts, pooled.c);
  void* const data = stem.allocate_rows();
  for (const Strip& strip : stem.strips()) {
    const FeatureMap<const void> x = stem.convolve(strip);
    const FeatureMap<void> grad = stem.rows(strip, data);
    backward_pooling(queue, pooled, strip, x, args.norm, grad, {args.constant, args.slope}, unused.data);
    use(strip, grad);
  }
}

}  // namespace

void stem_forward(const Queue& queue, const StemForward<void>& args) {
  const int64_t outputs = args.output.c;
  const Stem stem(queue, args.images, args.weight, outputs, args.strip_bytes);
  PartialStatistics partial{};
  if (args.mean) {
    const int64_t rows = args.images.n * stem.height();  // a part each
    partial =
        allocate_partial_statistics(queue, rows, outputs, rows * stem.width(), std::max<int64_t>(1, stem.width()));
    partial.centre = args.output.data;  // of the first window, before a norm one of x
  }
  for (const Strip& strip : stem.strips()) {
    const FeatureMap<const void> x = stem.convolve(strip);
    const int64_t above = strip.row - strip.outer_row;
    bn_relu_maxpool_forward(
        queue,
        {x, args.norm, part(queue, args.output, strip.image, strip.images, strip.row / 2, half_up(strip.rows)), above});
    if (args.mean)
      channel_statistics_of_strip(queue, part(queue, x, 0, strip.images, above, strip.rows),
                                  strip.image * stem.height() + strip.row, partial);
  }
  if (args.mean) finish_statistics(queue, partial, args.mean, args.variance);
}

void stem_backward_sums(const Queue& queue, const StemBackwardSums<void>& args) {
  const int64_t outputs = args.grad_output.grad.c;
  const Stem stem(queue, args.images, args.weight, outputs, args.strip_bytes);
  const FeatureMap<const void> pooled = settled(queue, args.grad_output);
  PartialSums partial = allocate_partial_sums(queue, kMaxReductionParts * stem.strips().size(), outputs);
  partial.parts = 0;
  for (const Strip& strip : stem.strips()) {
    const FeatureMap<const void> x = stem.convolve(strip);
    void* const to = static_cast<char*>(partial.data) + partial.parts * 2 * outputs * real_bytes(queue.element);
    partial.parts += backward_pooling(queue, pooled, strip, x, args.norm, stem.rows(strip, nullptr), {}, to);
  }
  finish_bn_sums(queue, partial, args.sums);
}

void stem_backward_weight(const Queue& queue, const StemBackwardWeight<void>& args) {
  const int64_t outputs = args.grad_output.grad.c;
  const Stem stem(queue, args.images, args.weight, outputs, args.strip_bytes);
  const int64_t parts = stem.weight_parts(), count = outputs * args.images.c * kStemTaps;
  void* const partial = allocate_parts(queue, parts, count, args.grad_weight);
  bool first = true;
  for_each_gradient(queue, stem, args, [&](const Strip& strip, const FeatureMap<void>& grad) {
    stem.weight_gradient(strip, grad, parts, partial, !first);
    first = false;
  });
  finish_parts(queue, partial, parts, count, args.grad_weight);
}

void stem_backward_images(const Queue& queue, const StemBackwardImages<void>& args) {
  const Stem stem(queue, args.images, args.weight, args.grad_output.grad.c, args.strip_bytes);
  for_each_gradient(queue, stem, args, [&](const Strip& strip, const FeatureMap<void>& grad) {
    stem.image_gradient(strip, grad, args.grad_images);
  });
}

}  // namespace ladderseg::cuda
