// Launches of the losses of pixels and of weighted losses: see ladderseg/upsample_cross_entropy.h.
#include "../kernels/upsample_pixel_losses.h"

#include "columns.h"
#include "labelled_scores.h"
#include "operators.h"
#include "score_tiles.h"

namespace ladderseg::cuda {
namespace {

constexpr unsigned kThreads = 256;  // kTotalThreads in kernels/upsample_pixel_losses.cu
constexpr const char* kImage = "upsample_pixel_losses";

using Terms = PixelTerms<void>;

ScoresArguments<void, void> scores_arguments(const LabelledScores<void>& scores) {
  return {scores.logits,
          labels(scores),
          scores.height,
          scores.width,
          scores.align_corners,
          scores.label_smoothing,
          scores.label_smoothing / static_cast<double>(scores.logits.c)};
}

void add_buffers(const Queue& queue, const LabelledScores<void>& scores, const WeightingArguments<void>& weighting,
                 std::vector<Buffer>& buffers) {
  if (weighting.pixel_weights)
    buffers.push_back(
        vector_buffer(queue, weighting.pixel_weights, weighting.one_weight ? 1 : pixels(scores), "pixel_weights"));
  if (weighting.grad_class_sums)
    buffers.push_back(
        vector_buffer(queue, weighting.grad_class_sums, scores.logits.n * 3 * scores.logits.c, "grad_class_sums"));
}

// Classes that a kernel takes at a time: kGroup in kernels/running_softmax.cuh.
unsigned groups(const Queue& queue, int64_t classes) {
  return static_cast<unsigned>(ceil_divide(classes, queue.element == Element::float64 ? 8 : 20));
}

// Memory for the terms of every pixel.
Buffer terms_buffer(const Queue& queue, const LabelledScores<void>& scores) {
  const int64_t bytes = 3 * real_bytes(queue.element) * pixels(scores);
  return buffer(queue.allocate(std::max<int64_t>(1, bytes)), bytes, Access::write, "terms");
}

const Terms* terms_of(const Buffer& buffer) { return static_cast<const Terms*>(buffer.data); }

Scratch<LossSums> pixel_losses(const Queue& queue, const LabelledScores<void>& scores,
                               const WeightingArguments<void>& weighting, void* losses, const Buffer* terms) {
  if (pixels(scores) == 0) return Scratch<LossSums>(queue, 0);
  const PixelTiles tiles = pixel_tiles(scores.logits, scores.height, scores.width, scores.align_corners);
  const Size blocks = grid(scores.logits, tiles);
  const Scratch<LossSums> sums(queue, blocks.x);
  const PixelLossesArguments<void, void> arguments{scores_arguments(scores),
                                                   weighting,
                                                   losses,
                                                   terms ? const_cast<Terms*>(terms_of(*terms)) : nullptr,
                                                   sums.data,
                                                   tiles};
  Launch call{kImage, "pixel_losses", blocks, {kScoreThreads}};
  call.buffers = score_buffers(queue, scores);
  add_buffers(queue, scores, weighting, call.buffers);
  if (losses) call.buffers.push_back(vector_buffer(queue, losses, pixels(scores), "losses", Access::write));
  if (terms) call.buffers.push_back(*terms);
  call.buffers.push_back(sums.buffer(Access::write, "loss sums"));
  call.operations = 11.0 * pixels(scores) * scores.logits.c;
  launch(queue, call, &arguments);
  return sums;
}

Scratch<LabelTotals> total_losses(const Queue& queue, const Scratch<LossSums>& sums, bool mean, double* loss,
                                  double* weight, int64_t* invalid_pixel) {
  const Scratch<LabelTotals> totals(queue, 1);
  const LossTotalsArguments arguments{sums.data, sums.count, mean, totals.data, loss, weight, invalid_pixel};
  Launch call{kImage, "loss_totals", {1}, {kThreads}};
  call.buffers = {sums.buffer(Access::read, "loss sums"), totals.buffer(Access::write, "totals"),
                  buffer(loss, sizeof(double), Access::write, "loss"),
                  buffer(invalid_pixel, sizeof(int64_t), Access::write, "invalid_pixel")};
  if (weight) call.buffers.push_back(buffer(weight, sizeof(double), Access::write, "weight"));
  call.operations = 2.0 * sums.count;
  launch(queue, call, &arguments);
  return totals;
}

void class_sums(const Queue& queue, const LabelledScores<void>& scores, const Buffer& terms, double* class_sums) {
  const PixelTiles tiles = pixel_tiles(scores.logits, scores.height, scores.width, scores.align_corners);
  Size blocks = grid(scores.logits, tiles);
  const int64_t images = scores.logits.n, count = 3 * scores.logits.c;
  const int64_t parts_per_image = images == 0 ? 0 : blocks.x / images;
  const Scratch<double> parts(queue, blocks.x * count);
  blocks.y = groups(queue, scores.logits.c);
  const ClassSumsArguments<void, void> arguments{scores_arguments(scores), terms_of(terms), parts.data, tiles};
  Launch call{kImage, "class_sums", blocks, {kScoreThreads}};
  call.buffers = score_buffers(queue, scores);
  call.buffers.push_back(terms);
  call.buffers.push_back(parts.buffer(Access::write, "parts"));
  call.operations = 10.0 * pixels(scores) * scores.logits.c;
  launch(queue, call, &arguments);

  const ClassTotalsArguments totals{parts.data, parts_per_image, count, class_sums};
  launch(queue,
         {kImage,
          "class_totals",
          {static_cast<unsigned>(ceil_divide(count, kThreads)), static_cast<unsigned>(images)},
          {kThreads},
          {parts.buffer(Access::read, "parts"),
           buffer(class_sums, images * count * sizeof(double), Access::write, "class_sums")},
          1.0 * parts.count},
         &totals);
}

}  // namespace

void weighted_cross_entropy(const Queue& queue, const UpsampleCrossEntropy<void>& args) {
  const LabelledScores<void>& scores = args.scores;
  const WeightingArguments<void> weighting{args.pixel_weights, args.one_weight, args.grad_class_sums};
  const bool want_grad = args.grad_logits.data;
  Buffer terms = want_grad ? terms_buffer(queue, scores) : Buffer{};
  const Scratch<LossSums> sums = pixel_losses(queue, scores, weighting, nullptr, want_grad ? &terms : nullptr);
  const Scratch<LabelTotals> totals = total_losses(queue, sums, args.mean, args.loss, nullptr, args.invalid_pixel);
  if (!want_grad) return;
  terms.access = static_cast<int>(Access::read);
  const CoarseTiles tiles = coarse_tiles(queue, scores.logits, scores.width, scores.align_corners);
  const PixelGradientArguments<void, void> arguments{scores_arguments(scores), weighting, terms_of(terms), totals.data,
                                                     args.grad_logits,         tiles};
  Launch call{kImage, "pixel_gradient", grid(scores.logits, tiles), {kScoreThreads}};
  call.grid.y = groups(queue, scores.logits.c);
  call.buffers = score_buffers(queue, scores);
  add_buffers(queue, scores, weighting, call.buffers);
  call.buffers.push_back(terms);
  call.buffers.push_back(totals.buffer(Access::read, "totals"));
  call.buffers.push_back(buffer(queue, args.grad_logits, Access::write, "grad_logits"));
  call.operations = 16.0 * pixels(scores) * scores.logits.c;
  launch(queue, call, &arguments);
}

void upsample_pixel_losses(const Queue& queue, const UpsamplePixelLosses<void>& args) {
  Buffer terms = args.class_sums ? terms_buffer(queue, args.scores) : Buffer{};
  const Scratch<LossSums> sums =
      pixel_losses(queue, args.scores, {nullptr, false, nullptr}, args.losses, args.class_sums ? &terms : nullptr);
  total_losses(queue, sums, false, args.loss_sums, args.loss_sums + 1, args.invalid_pixel);
  terms.access = static_cast<int>(Access::read);
  if (args.class_sums) class_sums(queue, args.scores, terms, args.class_sums);
}

}  // namespace ladderseg::cuda
