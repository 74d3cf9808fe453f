// Launches of the cross entropy of upsampled logits: see ladderseg/upsample_cross_entropy.h.
#include "../kernels/upsample_cross_entropy.h"

#include <algorithm>

#include "columns.h"
#include "operators.h"
#include "score_tiles.h"

namespace ladderseg::cuda {
namespace {

constexpr unsigned kThreads = 256;         // kLabelThreads and kTotalThreads in kernels/upsample_cross_entropy.cu
constexpr int64_t kLabelsPerBlock = 4096;  // likewise, at a time
constexpr const char* kImage = "upsample_cross_entropy";

Labels<void> labels(const UpsampleCrossEntropy<void>& args) {
  const int type = args.label_type == LabelType::uint8 ? 0 : args.label_type == LabelType::int32 ? 1 : 2;
  const int64_t pixels = args.logits.n * args.height * args.width;
  return {args.labels, type, pixels, args.logits.c, args.ignore_index, args.class_weights};
}

std::vector<Buffer> label_buffers(const Queue& queue, const UpsampleCrossEntropy<void>& args) {
  const int64_t pixels = args.logits.n * args.height * args.width;
  std::vector<Buffer> buffers = {buffer(args.labels, pixels * label_bytes(args.label_type), Access::read, "labels")};
  if (args.class_weights) buffers.push_back(vector_buffer(queue, args.class_weights, args.logits.c, "class_weights"));
  return buffers;
}

// An array in scratch memory.
template <class T>
struct Scratch {
  T* data;
  int64_t count;
  Scratch(const Queue& queue, int64_t count)
      : data(static_cast<T*>(queue.allocate(std::max<int64_t>(1, count) * sizeof(T)))), count(count) {}
  Buffer buffer(Access access, const char* name) const {
    return cuda::buffer(data, count * static_cast<int64_t>(sizeof(T)), access, name);
  }
};

Scratch<LabelTotals> total_labels(const Queue& queue, const UpsampleCrossEntropy<void>& args) {
  const Labels<void> of = labels(args);
  const int64_t blocks = std::min<int64_t>(ceil_divide(of.pixels, kLabelsPerBlock), 8 * multiprocessors(queue));
  const Scratch<LabelSums> sums(queue, blocks);
  const LabelSumsArguments<void> sum{of, sums.data, reinterpret_cast<uintptr_t>(args.labels) % 16 == 0};
  Launch call{kImage, "label_sums", {static_cast<unsigned>(blocks)}, {kThreads}};
  call.buffers = label_buffers(queue, args);
  call.buffers.push_back(sums.buffer(Access::write, "label sums"));
  call.operations = 2.0 * of.pixels;
  launch(queue, call, &sum);

  const Scratch<LabelTotals> totals(queue, 1);
  const LabelTotalsArguments total{sums.data, blocks, totals.data, args.invalid_pixel};
  launch(queue,
         {kImage,
          "label_totals",
          {1},
          {kThreads},
          {sums.buffer(Access::read, "label sums"), totals.buffer(Access::write, "label totals"),
           buffer(args.invalid_pixel, sizeof(int64_t), Access::write, "invalid_pixel")},
          2.0 * blocks},
         &total);
  return totals;
}

// Launches loss and gradient in one pass, or the gradient from a known softmax, for groups of classes.
void walk_tiles(const Queue& queue, const UpsampleCrossEntropy<void>& args, const char* kernel, int64_t groups,
                const CoarseTiles& tiles, const Scratch<LabelTotals>& totals, const Buffer* softmax,
                const Buffer* losses) {
  const UpsampleCrossEntropyArguments<void, void> arguments{
      args.logits,
      labels(args),
      args.height,
      args.width,
      args.grad_logits,
      totals.data,
      softmax ? static_cast<const PixelSoftmax<void>*>(softmax->data) : nullptr,
      losses ? static_cast<double*>(const_cast<void*>(losses->data)) : nullptr,
      tiles};
  Launch call{kImage, kernel, grid(args.logits, tiles), {kScoreThreads}};
  call.grid.y = static_cast<unsigned>(groups);
  call.buffers = label_buffers(queue, args);
  call.buffers.push_back(buffer(queue, args.logits, Access::read, "logits"));
  call.buffers.push_back(totals.buffer(Access::read, "label totals"));
  if (args.grad_logits.data) call.buffers.push_back(buffer(queue, args.grad_logits, Access::write, "grad_logits"));
  if (softmax) call.buffers.push_back(*softmax);
  if (losses) call.buffers.push_back(*losses);
  call.operations = 14.0 * arguments.labels.pixels * args.logits.c;
  launch(queue, call, &arguments);
}

void finish_loss(const Queue& queue, const UpsampleCrossEntropy<void>& args, const Scratch<double>& losses,
                 const Scratch<LabelTotals>& totals) {
  const LossArguments arguments{losses.data, losses.count, totals.data, args.invalid_pixel, args.loss};
  launch(queue,
         {kImage,
          "loss",
          {1},
          {kThreads},
          {losses.buffer(Access::read, "losses"), totals.buffer(Access::read, "label totals"),
           buffer(args.invalid_pixel, sizeof(int64_t), Access::read, "invalid_pixel"),
           buffer(args.loss, sizeof(double), Access::write, "loss")},
          1.0 * losses.count},
         &arguments);
}

// The kernel for all `classes` at once, or nullptr.
const char* whole_kernel(const Queue& queue, int64_t classes) {
  if (queue.element == Element::float64) return classes <= 8 ? "cross_entropy_8" : nullptr;
  if (classes <= 16) return "cross_entropy_16";
  if (classes <= 19) return "cross_entropy_19";
  return classes <= 32 ? "cross_entropy_32" : nullptr;
}

// Launches the kernels for any number of classes.
Scratch<double> in_groups(const Queue& queue, const UpsampleCrossEntropy<void>& args,
                          const Scratch<LabelTotals>& totals) {
  const int64_t group = queue.element == Element::float64 ? 8 : 20;  // kGroup in kernels/upsample_cross_entropy.cu
  const PixelTiles pixels = pixel_tiles(args.logits, args.height, args.width);
  const Size blocks = grid(args.logits, pixels);
  const Scratch<double> losses(queue, blocks.x);
  const bool want_grad = args.grad_logits.data;
  const int64_t softmax_bytes = want_grad ? 2 * real_bytes(queue.element) * labels(args).pixels : 0;
  Buffer softmax = buffer(want_grad ? queue.allocate(softmax_bytes) : nullptr, softmax_bytes, Access::write, "softmax");
  const PixelLossArguments<void, void> arguments{args.logits,
                                                 labels(args),
                                                 args.height,
                                                 args.width,
                                                 static_cast<PixelSoftmax<void>*>(const_cast<void*>(softmax.data)),
                                                 losses.data,
                                                 pixels};
  Launch call{kImage, "pixel_loss", blocks, {kScoreThreads}};
  call.buffers = label_buffers(queue, args);
  call.buffers.push_back(buffer(queue, args.logits, Access::read, "logits"));
  call.buffers.push_back(losses.buffer(Access::write, "losses"));
  if (want_grad) call.buffers.push_back(softmax);
  call.operations = 9.0 * labels(args).pixels * args.logits.c;
  launch(queue, call, &arguments);
  if (want_grad) {
    softmax.access = static_cast<int>(Access::read);
    walk_tiles(queue, args, "cross_entropy_grad", ceil_divide(args.logits.c, group),
               coarse_tiles(queue, args.logits, args.width), totals, &softmax, nullptr);
  }
  return losses;
}

Scratch<double> losses_and_gradient(const Queue& queue, const UpsampleCrossEntropy<void>& args,
                                    const Scratch<LabelTotals>& totals) {
  if (labels(args).pixels == 0 || args.logits.c == 0) return Scratch<double>(queue, 0);
  const char* const kernel = whole_kernel(queue, args.logits.c);
  if (!kernel) return in_groups(queue, args, totals);
  const CoarseTiles tiles = coarse_tiles(queue, args.logits, args.width);
  const Scratch<double> losses(queue, grid(args.logits, tiles).x);
  const Buffer buffer = losses.buffer(Access::write, "losses");
  walk_tiles(queue, args, kernel, 1, tiles, totals, nullptr, &buffer);
  return losses;
}

}  // namespace

void upsample_cross_entropy(const Queue& queue, const UpsampleCrossEntropy<void>& args) {
  const Scratch<LabelTotals> totals = total_labels(queue, args);
  finish_loss(queue, args, losses_and_gradient(queue, args, totals), totals);
}

}  // namespace ladderseg::cuda
