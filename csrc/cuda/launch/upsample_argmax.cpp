// Launch of the labels from upsampled scores: see ladderseg/upsample_argmax.h.
#include "../kernels/upsample_argmax.h"

#include "operators.h"
#include "score_tiles.h"

namespace ladderseg::cuda {

void upsample_argmax(const Queue& queue, const UpsampleArgmax<void>& args) {
  const int64_t pixels = args.scores.n * args.height * args.width;
  if (pixels == 0) return;
  const PixelTiles tiles = pixel_tiles(args.scores, args.height, args.width, args.align_corners);
  const UpsampleArgmaxArguments<void> arguments{args.scores, args.labels,        args.height,
                                                args.width,  args.align_corners, tiles};
  Launch call{"upsample_argmax", "upsample_argmax", grid(args.scores, tiles), {kScoreThreads}};
  call.buffers = {buffer(queue, args.scores, Access::read, "scores"),
                  buffer(args.labels, pixels, Access::write, "labels")};
  call.operations = 4.0 * pixels * args.scores.c;
  launch(queue, call, &arguments);
}

}  // namespace ladderseg::cuda
