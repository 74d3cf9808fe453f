// Losses of bilinearly upsampled logits, and their gradients, without full-resolution logits.
//
// With v_i the logits at pixel i, upsampled to the size of the labels, t_i its label, p_i = softmax(v_i), w the weights
// of classes and e the label smoothing, a pixel with t_i != ignore_index has the target
//
//   q_i[k] = w[k] * ((1 - e) * [k = t_i] + e / K)
//   loss_i = sum_k q_i[k] * (logsumexp(v_i) - v_i[k])
//
// Ignored pixels have loss 0 and weight 0. Everything is summed in a fixed order.
#pragma once

#include "feature_map.h"

namespace ladderseg {

enum class LabelType { uint8, int32, int64 };

inline int64_t label_bytes(LabelType type) { return type == LabelType::uint8 ? 1 : type == LabelType::int32 ? 4 : 8; }

// Logits, the labels that they are compared with, and how.
template <class T>
struct LabelledScores {
  FeatureMap<const T> logits;  // [N, h, w, K]
  const void* labels;          // [N, H, W] contiguous
  LabelType label_type;
  int64_t height, width;           // H, W
  bool align_corners;              // else half-pixel centres
  const RealOf<T>* class_weights;  // [K] or nullptr
  int64_t ignore_index;
  double label_smoothing;
};

// One loss of all pixels, and its gradient:
//
//   loss = sum_i m_i * loss_i,   divided by sum_i m_i * w[t_i] if `mean`
//   grad_logits = up^T(gradient of the loss by v_i)
//
// m_i are the pixel weights; a pixel of weight 0 adds 0 to everything, even if a logit is NaN. If no pixel counts or
// all have weight zero, the denominator is one instead of zero, so that the loss and the gradient are zero.
//
// `grad_class_sums` is the gradient of some function of the class sums of UpsamplePixelLosses; grad_logits then has
// that function's as well.
template <class T>
struct UpsampleCrossEntropy {
  LabelledScores<T> scores;
  bool mean;                         // without grad_class_sums
  const RealOf<T>* pixel_weights;    // [N, H, W], or one for all pixels, or nullptr: 1
  bool one_weight;                   // whether it is one
  const RealOf<T>* grad_class_sums;  // [N, 3, K] or nullptr
  double* loss;                      // scalar
  FeatureMap<T> grad_logits;         // [N, h, w, K], or no data
  int64_t* invalid_pixel;            // scalar: index of a pixel with a label outside [0, K), or -1
};

// The loss of every pixel, and sums over pixels:
//
//   loss_sums = sum_i loss_i, sum_i w[t_i]
//   class_sums[n, 0, k] = sum_i p_i[k]              over counted pixels i of image n
//   class_sums[n, 1, k] = sum_i p_i[k] [k = t_i]
//   class_sums[n, 2, k] = sum_i [k = t_i]
template <class T>
struct UpsamplePixelLosses {
  LabelledScores<T> scores;
  RealOf<T>* losses;   // [N, H, W] or nullptr
  double* loss_sums;   // [2]
  double* class_sums;  // [N, 3, K] or nullptr
  int64_t* invalid_pixel;
};

}  // namespace ladderseg
