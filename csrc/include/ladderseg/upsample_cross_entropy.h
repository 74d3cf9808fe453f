// Cross entropy of bilinearly upsampled logits, and its gradient, without full-resolution logits.
//
//   v[n, y, x, :] = up(logits)[n, y, x, :]                   half-pixel centres, to the size of the labels
//   loss = sum_i w[t_i] * (logsumexp(v_i) - v_i[t_i]) / sum_i w[t_i]    over pixels i with label t_i != ignore_index
//   grad_logits = up^T((softmax(v_i) - onehot(t_i)) * w[t_i]) / sum_i w[t_i]
//
// If no pixel counts or all have weight zero, the denominator is one instead of zero, so that the loss and the gradient
// are zero. The gradient is summed in a fixed order.
#pragma once

#include "feature_map.h"

namespace ladderseg {

enum class LabelType { uint8, int32, int64 };

inline int64_t label_bytes(LabelType type) { return type == LabelType::uint8 ? 1 : type == LabelType::int32 ? 4 : 8; }

template <class T>
struct UpsampleCrossEntropy {
  FeatureMap<const T> logits;  // [N, h, w, K]
  const void* labels;          // [N, H, W] contiguous
  LabelType label_type;
  int64_t height, width;   // H, W
  const T* class_weights;  // [K] or nullptr
  int64_t ignore_index;
  double* loss;               // scalar
  FeatureMap<T> grad_logits;  // [N, h, w, K], or no data
  int64_t* invalid_pixel;     // scalar: index of a pixel with a label outside [0, K), or -1
};

}  // namespace ladderseg
