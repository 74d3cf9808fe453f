// Cross entropy of upsampled logits, and its gradient: see ladderseg/upsample_cross_entropy.h.
#include <cstring>

#include "operators.h"
#include "parallel.h"
#include "upsampled_softmax.h"

namespace ladderseg {
namespace LADDERSEG_ISA {

// A member owns rows of the coarse map: it visits the fine rows whose lower neighbour is one of them, and adds their
// gradient to that row and the next. The gradient of the row after its last goes to a spill row, added at the end.
template <class T>
struct CrossEntropy {
  using Softmax = UpsampledSoftmax<T>;
  using Real = RealOf<T>;
  using Vector = typename Softmax::Vector;
  static constexpr int lanes = Softmax::lanes;
  static constexpr bool kRounds = !std::is_same_v<T, Real>;

  const UpsampleCrossEntropy<T>& args;
  const LabelledScores<T>& scores;
  const int64_t coarse_height, coarse_width;
  const bool want_grad;
  ScratchLayout shared, own;
  Softmax softmax;
  const int64_t classes, padded;
  const Region<Real> grad_predicted;  // [N, padded]: the first of grad_class_sums
  const Region<Real> gradient;        // [N, h, w, K]: the gradient before it is rounded, if it is
  const Region<Real> line_grad;       // [w, padded]
  const Region<Real> spill;           // [w, padded]
  const Region<double> totals;        // loss, weight
  const Region<int64_t> flags;        // invalid pixel, spill row

  explicit CrossEntropy(const UpsampleCrossEntropy<T>& arguments)
      : args(arguments),
        scores(args.scores),
        coarse_height(scores.logits.h),
        coarse_width(scores.logits.w),
        want_grad(args.grad_logits.data != nullptr),
        softmax(scores, shared, own),
        classes(softmax.classes),
        padded(softmax.padded),
        grad_predicted(shared.add<Real>(args.grad_class_sums ? scores.logits.n * padded : 0)),
        gradient(shared.add<Real>(kRounds && want_grad ? scores.logits.pixels() * classes : 0)),
        line_grad(own.add<Real>(coarse_width * padded)),
        spill(own.add<Real>(coarse_width * padded)),
        totals(own.add<double>(2)),
        flags(own.add<int64_t>(2)) {}

  LADDERSEG_INLINE void prepare(char* scratch) {
    softmax.prepare(scratch);
    if (!args.grad_class_sums) return;
    for (int64_t image = 0; image < scores.logits.n; ++image)
      for (int64_t k = 0; k < padded; ++k)
        grad_predicted.in(scratch)[image * padded + k] =
            k < classes ? args.grad_class_sums[image * 3 * classes + k] : Real(0);
  }

  // The loss of a pixel without smoothing, of weight 1; its gradient (softmax - onehot) * weight replaces the terms.
  LADDERSEG_INLINE double plain_loss(char* scratch, char* base, int64_t x, int64_t label, Real weight) const {
    const typename Softmax::Terms terms = softmax.terms(scratch, base, x, label);
    Real* const v = softmax.pixel.in(base);
    const Real factor = weight / terms.sum;
    for (int64_t k = 0; k < padded; k += lanes) store(v + k, load(v + k) * factor);
    v[label] -= weight;
    return static_cast<double>(weight) *
           (static_cast<double>(std::log(terms.sum)) + static_cast<double>(terms.maximum - terms.at_label));
  }

  // The loss of a pixel; its gradient, softmax[k] * (mass + grad_predicted[k]) - pixel_weight * target[k] and what
  // grad_intersection adds at the label, replaces the terms.
  LADDERSEG_INLINE double weighted_loss(char* scratch, char* base, int64_t image, int64_t x, int64_t label, Real weight,
                                        Real pixel_weight) const {
    const typename Softmax::Terms terms = softmax.terms(scratch, base, x, label);
    const typename Softmax::Target target = softmax.target(weight);
    Real* const v = softmax.pixel.in(base);
    const Real inverse = Real(1) / terms.sum;
    Real mass = pixel_weight * target.total, at_label = -pixel_weight * target.at_label;
    if (args.grad_class_sums) {
      const Real* const predicted = grad_predicted.in(scratch) + image * padded;
      const Real of_label = v[label] * inverse * args.grad_class_sums[(image * 3 + 1) * classes + label];
      Vector sums = {};
      for (int64_t k = 0; k < padded; k += lanes) sums += load(v + k) * load(predicted + k);
      mass -= sum_lanes<Real>(sums) * inverse + of_label;
      at_label += of_label;
      for (int64_t k = 0; k < padded; k += lanes) store(v + k, load(v + k) * inverse * (mass + load(predicted + k)));
    } else {
      const Real factor = mass * inverse;
      for (int64_t k = 0; k < padded; k += lanes) store(v + k, load(v + k) * factor);
    }
    if (softmax.smoothing)
      for (int64_t k = 0; k < padded; k += lanes)
        store(v + k, load(v + k) - pixel_weight * load(softmax.shares.in(scratch) + k));
    v[label] += at_label;
    return static_cast<double>(pixel_weight) * softmax.loss(target, terms);
  }

  LADDERSEG_INLINE void fine_row(char* scratch, char* base, int64_t image, int64_t y, double& loss,
                                 double& total) const {
    softmax.blend_line(base, image, y);
    Real* const grad = line_grad.in(base);
    if (want_grad) std::memset(grad, 0, coarse_width * padded * sizeof(Real));
    const bool plain = !softmax.smoothing && !args.pixel_weights && !args.grad_class_sums;
    for (int64_t x = 0; x < scores.width; ++x) {
      const int64_t i = (image * scores.height + y) * scores.width + x;
      const int64_t label = read_label(scores.labels, scores.label_type, i);
      if (label == scores.ignore_index) continue;
      if (label < 0 || label >= classes) {
        flags.in(base)[0] = i;
        continue;
      }
      const Real weight = softmax.class_weight(label);
      if (plain) {
        loss += plain_loss(scratch, base, x, label, weight);
        total += static_cast<double>(weight);
      } else {
        const Real pixel_weight = args.pixel_weights ? args.pixel_weights[args.one_weight ? 0 : i] : Real(1);
        if (pixel_weight == Real(0) && !args.grad_class_sums) continue;
        loss += weighted_loss(scratch, base, image, x, label, weight, pixel_weight);
        total += static_cast<double>(pixel_weight) * static_cast<double>(weight);
      }
      if (!want_grad) continue;
      const Real right = softmax.horizontal.weight[x];
      const Real* const gradient = softmax.pixel.in(base);
      add_scaled(padded, Real(1) - right, gradient, grad + softmax.horizontal.lower[x] * padded);
      add_scaled(padded, right, gradient, grad + softmax.horizontal.upper[x] * padded);
    }
  }

  // Where the gradient of coarse pixel p is summed.
  LADDERSEG_INLINE Real* sums_of(char* scratch, int64_t p) const {
    if constexpr (kRounds)
      return gradient.in(scratch) + p * classes;
    else
      return args.grad_logits.pixel(p);
  }

  LADDERSEG_INLINE void add_line(char* scratch, char* base, int64_t row, Real weight) const {
    for (int64_t x = 0; x < coarse_width; ++x)
      add_scaled(classes, weight, line_grad.in(base) + x * padded, sums_of(scratch, row * coarse_width + x));
  }

  LADDERSEG_INLINE void coarse_rows(char* scratch, char* base, Range rows) const {
    double loss = 0.0, total = 0.0;
    flags.in(base)[0] = -1;
    flags.in(base)[1] = -1;
    for (int64_t row = rows.begin; row < rows.end && want_grad; ++row)
      for (int64_t x = 0; x < coarse_width; ++x)
        std::memset(sums_of(scratch, row * coarse_width + x), 0, classes * sizeof(Real));
    for (int64_t row = rows.begin; row < rows.end; ++row) {
      const int64_t image = row / coarse_height, i = row % coarse_height;
      for (int64_t y = 0; y < scores.height; ++y) {
        if (softmax.vertical.lower[y] != i) continue;
        fine_row(scratch, base, image, y, loss, total);
        if (!want_grad) continue;
        add_line(scratch, base, row, Real(1) - softmax.vertical.weight[y]);
        const int64_t upper = softmax.vertical.upper[y];
        if (image * coarse_height + upper < rows.end)
          add_line(scratch, base, image * coarse_height + upper, softmax.vertical.weight[y]);
        else
          add_to_spill(base, rows.end, softmax.vertical.weight[y]);
      }
    }
    totals.in(base)[0] = loss;
    totals.in(base)[1] = total;
  }

  LADDERSEG_INLINE void add_to_spill(char* base, int64_t row, Real weight) const {
    if (flags.in(base)[1] < 0) std::memset(spill.in(base), 0, coarse_width * padded * sizeof(Real));
    flags.in(base)[1] = row;
    add_scaled(coarse_width * padded, weight, line_grad.in(base), spill.in(base));
  }

  // Adds the sums in the members' order; one member calls it. Returns the factor that turns the gradient of the sum
  // into that of the loss.
  template <class MemberBase>
  LADDERSEG_INLINE Real finish(char* scratch, int team, const MemberBase& base_of) const {
    double loss = 0.0, total = 0.0;
    *args.invalid_pixel = -1;
    for (int member = 0; member < team; ++member) {
      char* base = base_of(member);
      loss += totals.in(base)[0];
      total += totals.in(base)[1];
      if (flags.in(base)[0] >= 0) *args.invalid_pixel = flags.in(base)[0];
      const int64_t row = flags.in(base)[1];
      if (row < 0) continue;
      for (int64_t x = 0; x < coarse_width; ++x)
        add_scaled(classes, Real(1), spill.in(base) + x * padded, sums_of(scratch, row * coarse_width + x));
    }
    const double weight = !args.mean || total == 0.0 ? 1.0 : total;
    *args.loss = loss / weight;
    return static_cast<Real>(1.0 / weight);
  }
};

template <class T>
void upsample_cross_entropy(const UpsampleCrossEntropy<T>& args, int threads) {
  CrossEntropy<T> work(args);
  const Region<RealOf<T>> factor = work.shared.template add<RealOf<T>>(1);
  char* const scratch = reserve_scratch(work.shared.bytes + threads * work.own.bytes);
  const auto base_of = [&](int member) { return scratch + work.shared.bytes + member * work.own.bytes; };
  work.prepare(scratch);

  parallel(threads, [&](int member, int team) {
    const Range rows = split(work.scores.logits.n * work.coarse_height, member, team);
    work.coarse_rows(scratch, base_of(member), rows);
    barrier(team);
    if (member == 0) *factor.in(scratch) = work.finish(scratch, team, base_of);
    barrier(team);
    if (!work.want_grad || !(args.mean || work.kRounds)) return;
    for (int64_t p = rows.begin * work.coarse_width; p < rows.end * work.coarse_width; ++p)
      for (int64_t k = 0; k < work.classes; ++k)
        put(args.grad_logits.pixel(p)[k], work.sums_of(scratch, p)[k] * *factor.in(scratch));
  });
}

LADDERSEG_INSTANTIATE(upsample_cross_entropy)

}  // namespace LADDERSEG_ISA
}  // namespace ladderseg
