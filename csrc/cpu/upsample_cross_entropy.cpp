// Cross entropy of upsampled logits, and its gradient: see ladderseg/upsample_cross_entropy.h.
#include <cmath>
#include <cstring>

#include "bilinear.h"
#include "exp.h"
#include "operators.h"
#include "parallel.h"

namespace ladderseg {
namespace LADDERSEG_ISA {

LADDERSEG_INLINE int64_t read_label(const void* labels, LabelType type, int64_t i) {
  switch (type) {
    case LabelType::uint8:
      return static_cast<const uint8_t*>(labels)[i];
    case LabelType::int32:
      return static_cast<const int32_t*>(labels)[i];
    default:
      return static_cast<const int64_t*>(labels)[i];
  }
}

// Vectors run along classes: a pixel's scores are padded to whole vectors with copies of class 0 (which change no
// maximum) that a mask keeps out of the sums.
//
// A member owns rows of the coarse map: it visits the fine rows whose lower neighbour is one of them, and adds their
// gradient to that row and the next. The gradient of the row after its last goes to a spill row, added at the end.
template <class T>
struct CrossEntropy {
  using Vector = typename Simd<T>::Vector;
  static constexpr int lanes = Simd<T>::lanes;

  const UpsampleCrossEntropy<T>& args;
  const int64_t classes, padded, coarse_height, coarse_width;
  const bool want_grad;
  ScratchLayout shared, own;
  const BilinearAxisScratch<T> vertical_scratch, horizontal_scratch;
  const Region<T> mask;         // [padded]: 1 for a class, 0 for padding
  const Region<T> line;         // [w, padded]: a row of logits at the height of a fine row
  const Region<T> line_grad;    // [w, padded]
  const Region<T> spill;        // [w, padded]
  const Region<T> pixel;        // [padded]: scores, then their gradient
  const Region<double> totals;  // loss, weight
  const Region<int64_t> flags;  // invalid pixel, spill row
  BilinearAxis<T> vertical, horizontal;

  explicit CrossEntropy(const UpsampleCrossEntropy<T>& arguments)
      : args(arguments),
        classes(args.logits.c),
        padded(round_up<int64_t>(classes, lanes)),
        coarse_height(args.logits.h),
        coarse_width(args.logits.w),
        want_grad(args.grad_logits.data != nullptr),
        vertical_scratch(shared, args.height),
        horizontal_scratch(shared, args.width),
        mask(shared.add<T>(padded)),
        line(own.add<T>(coarse_width * padded)),
        line_grad(own.add<T>(coarse_width * padded)),
        spill(own.add<T>(coarse_width * padded)),
        pixel(own.add<T>(padded)),
        totals(own.add<double>(2)),
        flags(own.add<int64_t>(2)),
        vertical{},
        horizontal{} {}

  LADDERSEG_INLINE void prepare(char* scratch) {
    vertical = vertical_scratch.fill(scratch, coarse_height, args.height);
    horizontal = horizontal_scratch.fill(scratch, coarse_width, args.width);
    for (int64_t k = 0; k < padded; ++k) mask.in(scratch)[k] = k < classes ? T(1) : T(0);
  }

  LADDERSEG_INLINE void blend_line(char* base, int64_t image, int64_t y) const {
    for (int64_t x = 0; x < coarse_width; ++x) {
      T* to = line.in(base) + x * padded;
      blend(classes, args.logits.at(image, vertical.lower[y], x), args.logits.at(image, vertical.upper[y], x),
            vertical.weight[y], to);
      for (int64_t k = classes; k < padded; ++k) to[k] = to[0];
    }
  }

  // Loss of one pixel; its gradient (softmax - onehot) * weight is left in `pixel`.
  LADDERSEG_INLINE double pixel_loss(char* scratch, char* base, int64_t x, int64_t label, T weight) const {
    const T* a = line.in(base) + horizontal.lower[x] * padded;
    const T* b = line.in(base) + horizontal.upper[x] * padded;
    const T right = horizontal.weight[x], left = T(1) - right;
    T* const v = pixel.in(base);
    Vector largest = left * load(a) + right * load(b);
    for (int64_t k = 0; k < padded; k += lanes) {
      const Vector value = left * load(a + k) + right * load(b + k);
      store(v + k, value);
      largest = value > largest ? value : largest;
    }
    T maximum = largest[0];
    for (int i = 1; i < lanes; ++i) maximum = largest[i] > maximum ? largest[i] : maximum;
    const T at_label = v[label];
    Vector sums = {};
    for (int64_t k = 0; k < padded; k += lanes) {
      const Vector e = exp_nonpositive(load(v + k) - maximum) * load(mask.in(scratch) + k);
      store(v + k, e);
      sums += e;
    }
    T sum = sums[0];
    for (int i = 1; i < lanes; ++i) sum += sums[i];
    const T factor = weight / sum;
    for (int64_t k = 0; k < padded; k += lanes) store(v + k, load(v + k) * factor);
    v[label] -= weight;
    return static_cast<double>(weight) * (static_cast<double>(std::log(sum)) + static_cast<double>(maximum - at_label));
  }

  LADDERSEG_INLINE void fine_row(char* scratch, char* base, int64_t image, int64_t y, double& loss,
                                 double& total) const {
    blend_line(base, image, y);
    T* const grad = line_grad.in(base);
    if (want_grad) std::memset(grad, 0, coarse_width * padded * sizeof(T));
    for (int64_t x = 0; x < args.width; ++x) {
      const int64_t i = (image * args.height + y) * args.width + x;
      const int64_t label = read_label(args.labels, args.label_type, i);
      if (label == args.ignore_index) continue;
      if (label < 0 || label >= classes) {
        flags.in(base)[0] = i;
        continue;
      }
      const T weight = args.class_weights ? args.class_weights[label] : T(1);
      loss += pixel_loss(scratch, base, x, label, weight);
      total += static_cast<double>(weight);
      if (!want_grad) continue;
      const T right = horizontal.weight[x];
      add_scaled(padded, T(1) - right, pixel.in(base), grad + horizontal.lower[x] * padded);
      add_scaled(padded, right, pixel.in(base), grad + horizontal.upper[x] * padded);
    }
  }

  LADDERSEG_INLINE void add_line(char* base, int64_t image, int64_t row, T weight) const {
    for (int64_t x = 0; x < coarse_width; ++x)
      add_scaled(classes, weight, line_grad.in(base) + x * padded, args.grad_logits.at(image, row, x));
  }

  LADDERSEG_INLINE void coarse_rows(char* scratch, char* base, Range rows) const {
    double loss = 0.0, total = 0.0;
    flags.in(base)[0] = -1;
    flags.in(base)[1] = -1;
    for (int64_t row = rows.begin; row < rows.end && want_grad; ++row)
      for (int64_t x = 0; x < coarse_width; ++x)
        std::memset(args.grad_logits.pixel(row * coarse_width + x), 0, classes * sizeof(T));
    for (int64_t row = rows.begin; row < rows.end; ++row) {
      const int64_t image = row / coarse_height, i = row % coarse_height;
      for (int64_t y = 0; y < args.height; ++y) {
        if (vertical.lower[y] != i) continue;
        fine_row(scratch, base, image, y, loss, total);
        if (!want_grad) continue;
        add_line(base, image, i, T(1) - vertical.weight[y]);
        const int64_t upper = vertical.upper[y];
        if (image * coarse_height + upper < rows.end)
          add_line(base, image, upper, vertical.weight[y]);
        else
          add_to_spill(base, rows.end, vertical.weight[y]);
      }
    }
    totals.in(base)[0] = loss;
    totals.in(base)[1] = total;
  }

  LADDERSEG_INLINE void add_to_spill(char* base, int64_t row, T weight) const {
    if (flags.in(base)[1] < 0) std::memset(spill.in(base), 0, coarse_width * padded * sizeof(T));
    flags.in(base)[1] = row;
    add_scaled(coarse_width * padded, weight, line_grad.in(base), spill.in(base));
  }

  // Adds the sums in the members' order; one member calls it. Returns the factor that turns the gradient into a mean's.
  template <class MemberBase>
  LADDERSEG_INLINE T finish(int team, const MemberBase& base_of) const {
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
        add_scaled(classes, T(1), spill.in(base) + x * padded, args.grad_logits.pixel(row * coarse_width + x));
    }
    const double weight = total == 0.0 ? 1.0 : total;
    *args.loss = loss / weight;
    return static_cast<T>(1.0 / weight);
  }
};

template <class T>
void upsample_cross_entropy(const UpsampleCrossEntropy<T>& args, int threads) {
  CrossEntropy<T> work(args);
  const Region<T> factor = work.shared.template add<T>(1);
  char* const scratch = reserve_scratch(work.shared.bytes + threads * work.own.bytes);
  const auto base_of = [&](int member) { return scratch + work.shared.bytes + member * work.own.bytes; };
  work.prepare(scratch);

  parallel(threads, [&](int member, int team) {
    const Range rows = split(args.logits.n * args.logits.h, member, team);
    work.coarse_rows(scratch, base_of(member), rows);
    barrier(team);
    if (member == 0) *factor.in(scratch) = work.finish(team, base_of);
    barrier(team);
    if (!work.want_grad) return;
    for (int64_t p = rows.begin * args.logits.w; p < rows.end * args.logits.w; ++p)
      for (int64_t k = 0; k < work.classes; ++k) args.grad_logits.pixel(p)[k] *= *factor.in(scratch);
  });
}

LADDERSEG_INSTANTIATE(upsample_cross_entropy)

}  // namespace LADDERSEG_ISA
}  // namespace ladderseg
