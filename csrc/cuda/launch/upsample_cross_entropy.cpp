// Launches of the cross entropy of upsampled logits: see ladderseg/upsample_cross_entropy.h.
#include "../kernels/upsample_cross_entropy.h"

#include "columns.h"
#include "labelled_scores.h"
#include "operators.h"
#include "score_tiles.h"

namespace ladderseg::cuda {
namespace {

constexpr unsigned kThreads = 256;         // kLabelThreads and kTotalThreads in kernels/upsample_cross_entropy.cu
constexpr int64_t kLabelsPerBlock = 4096;  // likewise, at a time
constexpr const char* kImage = "upsample_cross_entropy";

Scratch<LabelTotals> total_labels(const Queue& queue, const UpsampleCrossEntropy<void>& args) {
  const Labels<void> of = labels(args.scores);
  const int64_t blocks = std::min<int64_t>(ceil_divide(of.pixels, kLabelsPerBlock), 8 * multiprocessors(queue));
  const Scratch<LabelSums> sums(queue, blocks);
  const LabelSumsArguments<void> sum{of, sums.data, reinterpret_cast<uintptr_t>(of.data) % 16 == 0};
  Launch call{kImage, "label_sums", {static_cast<unsigned>(blocks)}, {kThreads}};
  call.buffers = label_buffers(queue, args.scores);
  call.buffers.push_back(sums.buffer(Access::write, "label sums"));
  call.operations = 2.0 * of.pixels;
  launch(queue, call, &sum);

  const Scratch<LabelTotals> totals(queue, 1);
  const LabelTotalsArguments total{sums.data, blocks, args.mean, totals.data, args.invalid_pixel};
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
      args.scores.logits,
      labels(args.scores),
      args.scores.height,
      args.scores.width,
      args.grad_logits,
      totals.data,
      softmax ? static_cast<const PixelSoftmax<void>*>(softmax->data) : nullptr,
      losses ? static_cast<double*>(const_cast<void*>(losses->data)) : nullptr,
      tiles};
  Launch call{kImage, kernel, grid(args.scores.logits, tiles), {kScoreThreads}};
  call.grid.y = static_cast<unsigned>(groups);
  call.buffers = score_buffers(queue, args.scores);
  call.buffers.push_back(totals.buffer(Access::read, "label totals"));
  if (args.grad_logits.data) call.buffers.push_back(buffer(queue, args.grad_logits, Access::write, "grad_logits"));
  if (softmax) call.buffers.push_back(*softmax);
  if (losses) call.buffers.push_back(*losses);
  call.operations = 14.0 * arguments.labels.pixels * args.scores.logits.c;
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
  const PixelTiles pixels = pixel_tiles(args.scores.logits, args.scores.height, args.scores.width);
  const Size blocks = grid(args.scores.logits, pixels);
  const Scratch<double> losses(queue, blocks.x);
  const bool want_grad = args.grad_logits.data;
  const int64_t softmax_bytes = want_grad ? 2 * real_bytes(queue.element) * labels(args.scores).pixels : 0;
  Buffer softmax = buffer(want_grad ? queue.allocate(softmax_bytes) : nullptr, softmax_bytes, Access::write, "softmax");
  const PixelLossArguments<void, void> arguments{args.scores.logits,
                                                 labels(args.scores),
                                                 args.scores.height,
                                                 args.scores.width,
                                                 static_cast<PixelSoftmax<void>*>(const_cast<void*>(softmax.data)),
                                                 losses.data,
                                                 pixels};
  Launch call{kImage, "pixel_loss", blocks, {kScoreThreads}};
  call.buffers = score_buffers(queue, args.scores);
  call.buffers.push_back(losses.buffer(Access::write, "losses"));
  if (want_grad) call.buffers.push_back(softmax);
  call.operations = 9.0 * labels(args.scores).pixels * args.scores.logits.c;
  launch(queue, call, &arguments);
  if (want_grad) {
    softmax.access = static_cast<int>(Access::read);
    walk_tiles(queue, args, "cross_entropy_grad", ceil_divide(args.scores.logits.c, group),
               coarse_tiles(queue, args.scores.logits, args.scores.width), totals, &softmax, nullptr);
  }
  return losses;
}

Scratch<double> losses_and_gradient(const Queue& queue, const UpsampleCrossEntropy<void>& args,
                                    const Scratch<LabelTotals>& totals) {
  if (labels(args.scores).pixels == 0 || args.scores.logits.c == 0) return Scratch<double>(queue, 0);
  const char* const kernel = whole_kernel(queue, args.scores.logits.c);
  if (!kernel) return in_groups(queue, args, totals);
  const CoarseTiles tiles = coarse_tiles(queue, args.scores.logits, args.scores.width);
  const Scratch<double> losses(queue, grid(args.scores.logits, tiles).x);
  const Buffer buffer = losses.buffer(Access::write, "losses");
  walk_tiles(queue, args, kernel, 1, tiles, totals, nullptr, &buffer);
  return losses;
}

}  // namespace

void upsample_cross_entropy(const Queue& queue, const UpsampleCrossEntropy<void>& args) {
  if (args.scores.align_corners || args.scores.label_smoothing != 0.0 || args.pixel_weights || args.grad_class_sums)
    return weighted_cross_entropy(queue, args);
  const Scratch<LabelTotals> totals = total_labels(queue, args);
  finish_loss(queue, args, losses_and_gradient(queue, args, totals), totals);
}

}  // namespace ladderseg::cuda
