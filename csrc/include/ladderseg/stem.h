// The stem: convolution 7x7 with stride 2 and padding 3, batch norm, rectification, and 3x3 max pooling with stride 2
// and padding 1 (ALGORITHMS.md section 5). The convolution's result, the largest map of the network, exists only in
// part: on the CPU as a few rows in cache, on a CUDA device as a strip of `strip_bytes`, at least two rows of an image.
//
//   x = conv7x7(images, weight) [N, H', W', K],  H' = ceil(H / 2);  pooled [N, h, w, K],  h = ceil(H' / 2)
//
// Forward. y = relu((x - mean) * scale + shift) grows with x if scale > 0 and falls if scale < 0, so the window's
// largest or smallest x gives its maximum. Without a mean these extremes are the output, because the statistics of x,
// which the same pass computes, are not known beforehand; scale then only gives the signs.
//
// Backward, with m as in bn_relu.h: each pooled gradient goes to its window's first maximum.
//   sums:    masked = sum(m), centred = sum(m * (x - mean)), from only the extremes
//   weight:  grad_weight = sum over positions of (scale * m - constant - slope * (x - mean)) * patch of the image
//   images:  the same gradient of x, times the weight, added to the pixels of the patch
#pragma once

#include "feature_map.h"

namespace ladderseg {

// Images of any memory layout.
template <class T>
struct Images {
  const T* data;
  int64 n, c, h, w;
  int64 stride_n, stride_c, stride_h, stride_w;  // in elements
};

template <class T>
struct StemForward {
  Images<T> images;
  const RealOf<T>* weight;  // [K, C, 7, 7]
  Norm<RealOf<T>> norm;     // its mean may be nullptr
  FeatureMap<T> output;     // [N, h, w, K]
  double* mean;             // [K], of x, or nullptr
  double* variance;         // [K], or nullptr, together with mean
  int64 strip_bytes;        // positive
};

template <class T>
struct StemBackwardSums {
  Gradient<T> grad_output;  // [N, h, w, K]
  Images<T> images;
  const RealOf<T>* weight;  // [K, C, 7, 7]
  Norm<RealOf<T>> norm;
  BnSums sums;
  int64 strip_bytes;
};

template <class T>
struct StemBackwardWeight {
  Gradient<T> grad_output;  // [N, h, w, K]
  Images<T> images;
  const RealOf<T>* weight;  // [K, C, 7, 7]
  Norm<RealOf<T>> norm;
  const RealOf<T>* constant;  // [K]
  const RealOf<T>* slope;     // [K]
  RealOf<T>* grad_weight;     // [K, C, 7, 7]
  int64 strip_bytes;
};

template <class T>
struct StemBackwardImages {
  Gradient<T> grad_output;  // [N, h, w, K]
  Images<T> images;
  const RealOf<T>* weight;  // [K, C, 7, 7]
  Norm<RealOf<T>> norm;
  const RealOf<T>* constant;  // [K]
  const RealOf<T>* slope;     // [K]
  FeatureMap<T> grad_images;  // [N, H, W, C], added to
  int64 strip_bytes;
};

}  // namespace ladderseg
