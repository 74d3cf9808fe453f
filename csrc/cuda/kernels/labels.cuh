// Labels of pixels, and their weights.
#pragma once

#include "element.cuh"
#include "upsample_cross_entropy.h"

namespace ladderseg::cuda {

constexpr int kIgnored = -1;
constexpr int kInvalid = -2;

// The class of a label, or one of the above.
LADDERSEG_DEVICE int class_of(const Labels<Real>& labels, int64 label) {
  if (label == labels.ignore_index) return kIgnored;
  return label < 0 || label >= labels.classes ? kInvalid : static_cast<int>(label);
}

LADDERSEG_DEVICE int class_at(const Labels<Real>& labels, int64 pixel) {
  int64 label;
  if (labels.type == 0)
    label = static_cast<const unsigned char*>(labels.data)[pixel];
  else if (labels.type == 1)
    label = static_cast<const int*>(labels.data)[pixel];
  else
    label = static_cast<const int64*>(labels.data)[pixel];
  return class_of(labels, label);
}

LADDERSEG_DEVICE Real class_weight(const Labels<Real>& labels, int k) {
  return labels.class_weights ? labels.class_weights[k] : Real(1);
}

}  // namespace ladderseg::cuda
