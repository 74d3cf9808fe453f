// The losses of pixels with upsampled logits, and sums of their softmax: see ladderseg/upsample_cross_entropy.h.
#include <cstring>

#include "operators.h"
#include "parallel.h"
#include "upsampled_softmax.h"

namespace ladderseg {
namespace LADDERSEG_ISA {

// Pixels whose probabilities are summed in the type of arithmetic; runs of pixels go on in double.
constexpr int64_t kSoftmaxRun = 64;

// A member owns fine rows.
template <class T>
struct PixelLosses {
  using Softmax = UpsampledSoftmax<T>;
  using Real = RealOf<T>;
  using Vector = typename Softmax::Vector;
  static constexpr int lanes = Softmax::lanes;

  const UpsamplePixelLosses<T>& args;
  const LabelledScores<T>& scores;
  ScratchLayout shared, own;
  Softmax softmax;
  const int64_t classes, padded;
  const Region<Real> run;       // [2, padded]: the first two class sums of a run
  const Region<double> sums;    // [N, 3, padded]: class sums
  const Region<double> totals;  // loss, weight
  const Region<int64_t> invalid;

  explicit PixelLosses(const UpsamplePixelLosses<T>& arguments)
      : args(arguments),
        scores(args.scores),
        softmax(scores, shared, own),
        classes(softmax.classes),
        padded(softmax.padded),
        run(own.add<Real>(2 * padded)),
        sums(own.add<double>(args.class_sums ? scores.logits.n * 3 * padded : 0)),
        totals(own.add<double>(2)),
        invalid(own.add<int64_t>(1)) {}

  // The pixel's probabilities, added to the run.
  LADDERSEG_INLINE void add_softmax(char* base, int64_t label, Real sum) const {
    const Real* const v = softmax.pixel.in(base);
    Real* const predicted = run.in(base);
    const Real inverse = Real(1) / sum;
    for (int64_t k = 0; k < padded; k += lanes) store(predicted + k, load(predicted + k) + load(v + k) * inverse);
    predicted[padded + label] += v[label] * inverse;
  }

  LADDERSEG_INLINE void end_run(char* base, double* of_image) const {
    Real* const from = run.in(base);
    for (int64_t k = 0; k < 2 * padded; ++k) of_image[k] += static_cast<double>(from[k]);
    std::memset(from, 0, 2 * padded * sizeof(Real));
  }

  LADDERSEG_INLINE void fine_row(char* scratch, char* base, int64_t row) const {
    const int64_t image = row / scores.height;
    double* const of_image = sums.in(base) + image * 3 * padded;
    double loss_sum = 0.0, weight_sum = 0.0;
    softmax.blend_line(base, image, row % scores.height);
    for (int64_t x = 0; x < scores.width; ++x) {
      const int64_t i = row * scores.width + x;
      const int64_t label = read_label(scores.labels, scores.label_type, i);
      double loss = 0.0;
      if (label == scores.ignore_index) {
      } else if (label < 0 || label >= classes) {
        *invalid.in(base) = i;
      } else {
        const Real weight = softmax.class_weight(label);
        const typename Softmax::Terms terms = softmax.terms(scratch, base, x, label);
        loss = softmax.loss(softmax.target(weight), terms);
        loss_sum += loss;
        weight_sum += static_cast<double>(weight);
        if (args.class_sums) {
          add_softmax(base, label, terms.sum);
          of_image[2 * padded + label] += 1.0;
        }
      }
      if (args.losses) args.losses[i] = static_cast<Real>(loss);
      if (args.class_sums && (x % kSoftmaxRun == kSoftmaxRun - 1 || x == scores.width - 1)) end_run(base, of_image);
    }
    totals.in(base)[0] += loss_sum;
    totals.in(base)[1] += weight_sum;
  }

  LADDERSEG_INLINE void clear(char* base) const {
    std::memset(run.in(base), 0, 2 * padded * sizeof(Real));
    if (args.class_sums) std::memset(sums.in(base), 0, scores.logits.n * 3 * padded * sizeof(double));
    totals.in(base)[0] = totals.in(base)[1] = 0.0;
    *invalid.in(base) = -1;
  }

  // Adds the sums in the members' order; one member calls it.
  template <class MemberBase>
  LADDERSEG_INLINE void finish(int team, const MemberBase& base_of) const {
    const int64_t rows = args.class_sums ? scores.logits.n * 3 : 0;
    *args.invalid_pixel = -1;
    args.loss_sums[0] = args.loss_sums[1] = 0.0;
    for (int64_t k = 0; k < rows * classes; ++k) args.class_sums[k] = 0.0;
    for (int member = 0; member < team; ++member) {
      char* base = base_of(member);
      for (int i = 0; i < 2; ++i) args.loss_sums[i] += totals.in(base)[i];
      for (int64_t row = 0; row < rows; ++row)
        for (int64_t k = 0; k < classes; ++k) args.class_sums[row * classes + k] += sums.in(base)[row * padded + k];
      if (*invalid.in(base) >= 0) *args.invalid_pixel = *invalid.in(base);
    }
  }
};

template <class T>
void upsample_pixel_losses(const UpsamplePixelLosses<T>& args, int threads) {
  PixelLosses<T> work(args);
  char* const scratch = reserve_scratch(work.shared.bytes + threads * work.own.bytes);
  const auto base_of = [&](int member) { return scratch + work.shared.bytes + member * work.own.bytes; };
  work.softmax.prepare(scratch);

  parallel(threads, [&](int member, int team) {
    const Range rows = split(work.scores.logits.n * work.scores.height, member, team);
    work.clear(base_of(member));
    for (int64_t row = rows.begin; row < rows.end; ++row) work.fine_row(scratch, base_of(member), row);
    barrier(team);
    if (member == 0) work.finish(team, base_of);
  });
}

LADDERSEG_INSTANTIATE(upsample_pixel_losses)

}  // namespace LADDERSEG_ISA
}  // namespace ladderseg
