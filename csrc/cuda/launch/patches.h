// The host's side of kernels/patches.h.
#pragma once

#include <cstdint>

#include "../kernels/patches.h"
#include "maps.h"

namespace ladderseg::cuda {

// `value`, at least 1, for numbers below 2^31.
Divisor divisor(int64_t value);

// The division of strips of h x w pixels of n images into patches of patch_height x patch_width pixels.
PatchGrid make_patch_grid(int64_t n, int64_t h, int64_t w, int64_t dilation, int64_t patch_height, int64_t patch_width);

// The blocks of a launch with `column_tiles` of them for every patch.
// Raises std::runtime_error if a grid cannot have so many.
unsigned patch_blocks(const PatchGrid& grid, int64_t column_tiles);

// Names of the kernels of a convolution by patches.
struct PatchKernels {
  const char *large, *small, *tensor, *tensor_narrow;
};

// The one that is launched, its threads, and its division of a strip into patches and of columns into tiles.
struct PatchVariant {
  const char* kernel;
  unsigned threads;
  PatchGrid patches;
  int64_t column_tiles;
};

// On the ordinary arithmetic units: small patches where large ones would leave multiprocessors without work, or would
// mostly be beside the strip.
PatchVariant patch_variant(const Queue& queue, const PatchKernels& kernels, const FeatureMap<void>& strip,
                           int64_t dilation);

// On tensor cores: with tiles of kNarrowColumns, or of `wide_columns`.
PatchVariant tensor_patch_variant(const PatchKernels& kernels, const FeatureMap<void>& strip, int64_t dilation,
                                  int wide_columns);

// Whether tensor cores' kernels, which number an image's pixels and the weights by ints, take maps and weights so
// large.
bool fit_tensor_patches(const FeatureMap<const void>& map, int64_t weights);

}  // namespace ladderseg::cuda
