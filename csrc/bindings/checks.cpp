#include "checks.h"

#include <stdexcept>
#include <string>

namespace ladderseg::check {
namespace {

constexpr int64_t kDouble = sizeof(double);

// The arguments of one call of `kernel`.
class Arguments {
 public:
  Arguments(const char* kernel, const Elements& elements) : kernel_(kernel), elements_(elements) {}

  [[noreturn]] void fail(const std::string& what) const {
    throw std::invalid_argument(std::string(kernel_) + ": " + what);
  }

  void expect(bool holds, const char* what) const {
    if (!holds) fail(what);
  }

  // A map of any shape.
  void map(const char* name, const Map& map) const {
    if (map.n < 0 || map.h < 0 || map.w < 0 || map.c < 1 || map.pixel_stride < map.c)
      fail(std::string(name) + " has no valid shape: " + shape(map) + ", pixel stride " +
           std::to_string(map.pixel_stride));
    if (map.element_bytes != elements_.map)
      fail(std::string(name) + " has elements of " + std::to_string(map.element_bytes) + " bytes, expected " +
           std::to_string(elements_.map));
    located(name, map.data, map.device, !map.empty());
  }

  void map(const char* name, const Map& found, int64_t n, int64_t h, int64_t w, int64_t c) const {
    map(name, found);
    shaped(name, found, n, h, w, c);
  }

  // A map that may be left out.
  void optional_map(const char* name, const Map& found, const Map& like) const {
    if (!found.absent()) map(name, found, like.n, like.h, like.w, like.c);
  }

  void shaped(const char* name, const Map& found, int64_t n, int64_t h, int64_t w, int64_t c) const {
    if (found.n != n || found.h != h || found.w != w || found.c != c)
      fail(std::string(name) + " is " + shape(found) + ", expected " + shape({0, 0, 0, n, h, w, c, 0}));
  }

  void memory(const char* name, const Memory& memory, int64_t count, int64_t element_bytes) const {
    located(name, memory.data, memory.device, count > 0);
    if (memory.bytes != count * element_bytes)
      fail(std::string(name) + " has " + std::to_string(memory.bytes) + " bytes, expected " + std::to_string(count) +
           " elements of " + std::to_string(element_bytes) + " bytes");
  }

  void optional_memory(const char* name, const Memory& found, int64_t count, int64_t element_bytes) const {
    if (found.given) memory(name, found, count, element_bytes);
  }

  void vector(const char* name, const Memory& found, int64_t channels) const {
    memory(name, found, channels, elements_.real);
  }

  void optional_vector(const char* name, const Memory& found, int64_t channels) const {
    optional_memory(name, found, channels, elements_.real);
  }

  // Both or none.
  void statistics(const Memory& mean, const Memory& variance, int64_t channels) const {
    expect(!mean.given == !variance.given, "mean and variance are wanted together");
    optional_memory("mean", mean, channels, kDouble);
    optional_memory("variance", variance, channels, kDouble);
  }

  void norm(const Norm& norm, int64_t channels) const {
    vector("mean", norm.mean, channels);
    vector("scale", norm.scale, channels);
    vector("shift", norm.shift, channels);
  }

  // All of it, or the scale alone.
  void norm_or_scale(const Norm& norm, int64_t channels) const {
    vector("scale", norm.scale, channels);
    expect(!norm.mean.given == !norm.shift.given, "mean and shift are given together");
    optional_vector("mean", norm.mean, channels);
    optional_vector("shift", norm.shift, channels);
  }

  void sums(const Sums& sums, int64_t channels) const {
    memory("masked", sums.masked, channels, kDouble);
    memory("centred", sums.centred, channels, kDouble);
  }

  void gradient(const Gradient& gradient) const {
    const Map& grad = gradient.grad;
    map("grad_output", grad);
    const Correction& correction = gradient.correction;
    if (correction.input.absent()) return;
    map("the gradient's input", correction.input, grad.n, grad.h, grad.w, grad.c);
    vector("the gradient's mean", correction.mean, grad.c);
    vector("the gradient's constant", correction.constant, grad.c);
    vector("the gradient's slope", correction.slope, grad.c);
  }

  void weight(const Memory& weight, int64_t count) const { memory("weight", weight, count, elements_.map); }

  void grad_weight(const Memory& weight, int64_t count) const {
    optional_memory("grad_weight", weight, count, elements_.real);
  }

  // `count` rows from `first` on lie within `height`.
  void rows(const char* name, int64_t first, int64_t count, int64_t height) const {
    if (first < 0 || first > height - count)
      fail(std::string(name) + ": " + std::to_string(count) + " rows from row " + std::to_string(first) +
           " on are not within its " + std::to_string(height));
  }

  void stem(const ImageBatch& images, const Memory& weights, const Map& pooled) const {
    expect(images.n >= 0 && images.c > 0 && images.h >= 0 && images.w >= 0, "images have no valid shape");
    expect(images.element_bytes == elements_.map, "images are of another element type");
    located("images", images.data, images.device, images.n > 0 && images.h > 0 && images.w > 0);
    shaped("the pooled map", pooled, images.n, (images.h + 3) / 4, (images.w + 3) / 4, pooled.c);
    weight(weights, pooled.c * images.c * 49);
  }

 private:
  static std::string shape(const Map& map) {
    return "[" + std::to_string(map.n) + ", " + std::to_string(map.c) + ", " + std::to_string(map.h) + ", " +
           std::to_string(map.w) + "]";
  }

  // There is memory if there are elements, where that of the arguments before was.
  void located(const char* name, Address data, int64_t device, bool has_elements) const {
    if (!data && has_elements) fail(std::string(name) + " has no memory");
    if (data && located_ && device != device_) fail(std::string(name) + " is on another device than other arguments");
    if (data) located_ = true, device_ = device;
  }

  const char* const kernel_;
  const Elements& elements_;
  mutable bool located_ = false;
  mutable int64_t device_ = 0;
};

int64_t padded(const Elements& elements, int64_t channels) {
  return (channels + elements.chunk - 1) / elements.chunk * elements.chunk;
}

}  // namespace

void channel_statistics(const Elements& elements, const Map& input, const Memory& mean, const Memory& variance) {
  const Arguments arguments("channel_statistics", elements);
  arguments.map("input", input);
  arguments.memory("mean", mean, input.c, kDouble);
  arguments.memory("variance", variance, input.c, kDouble);
}

void affine_correction(const Elements& elements, const Gradient& gradient, const Map& output) {
  const Arguments arguments("affine_correction", elements);
  const Map& grad = gradient.grad;
  arguments.gradient(gradient);
  arguments.map("output", output, grad.n, grad.h, grad.w, grad.c);
  arguments.expect(!gradient.correction.input.absent(), "the gradient has no input");
}

void batch_norm_forward(const Elements& elements, int64_t channels, const Memory& mean, const Memory& variance,
                        const Memory& running_mean, const Memory& running_variance, const Memory& batches,
                        const Memory& gamma, const Memory& beta, const Norm& norm, const Memory& invstd) {
  const Arguments arguments("batch_norm_forward", elements);
  arguments.expect(channels > 0, "there must be channels");
  arguments.statistics(mean, variance, channels);
  arguments.expect(!running_mean.given == !running_variance.given, "the running statistics are given together");
  arguments.expect(mean.given || running_mean.given, "statistics are missing");
  arguments.optional_vector("running_mean", running_mean, channels);
  arguments.optional_vector("running_variance", running_variance, channels);
  arguments.optional_memory("batches", batches, 1, sizeof(int64_t));
  arguments.optional_vector("gamma", gamma, channels);
  arguments.optional_vector("beta", beta, channels);
  arguments.norm(norm, channels);
  arguments.memory("invstd", invstd, channels, kDouble);
}

void batch_norm_backward(const Elements& elements, int64_t channels, const Sums& sums, const Memory& invstd,
                         const Norm& norm, const Memory& grad_gamma, const Memory& grad_beta, const Memory& mean,
                         const Memory& constant, const Memory& slope) {
  const Arguments arguments("batch_norm_backward", elements);
  arguments.expect(channels > 0, "there must be channels");
  arguments.sums(sums, channels);
  arguments.memory("invstd", invstd, channels, kDouble);
  arguments.norm(norm, channels);
  arguments.vector("grad_gamma", grad_gamma, channels);
  arguments.vector("grad_beta", grad_beta, channels);
  arguments.expect(!mean.given == !constant.given && !mean.given == !slope.given, "the correction is not complete");
  arguments.optional_vector("the correction's mean", mean, channels);
  arguments.optional_vector("the correction's constant", constant, channels);
  arguments.optional_vector("the correction's slope", slope, channels);
}

void bn_relu_forward(const Elements& elements, const Map& input, const Norm& norm, const Map& output) {
  const Arguments arguments("bn_relu_forward", elements);
  arguments.map("input", input);
  arguments.norm(norm, input.c);
  arguments.map("output", output, input.n, input.h, input.w, input.c);
}

void bn_relu_backward(const Elements& elements, const Map& grad_output, const Map& input, const Norm& norm,
                      const Map& grad_input, const Sums& sums) {
  const Arguments arguments("bn_relu_backward", elements);
  arguments.map("input", input);
  arguments.norm(norm, input.c);
  arguments.map("grad_output", grad_output, input.n, input.h, input.w, input.c);
  arguments.map("grad_input", grad_input, input.n, input.h, input.w, input.c);
  arguments.sums(sums, input.c);
}

void bn_relu_conv1x1_forward(const Elements& elements, const Map& input, const Norm& norm, const Memory& weight,
                             const Map& output, const Memory& output_mean, const Memory& output_variance) {
  const Arguments arguments("bn_relu_conv1x1_forward", elements);
  arguments.map("input", input);
  arguments.norm(norm, input.c);
  arguments.map("output", output, input.n, input.h, input.w, output.c);
  arguments.weight(weight, output.c * input.c);
  arguments.statistics(output_mean, output_variance, output.c);
}

void bn_relu_conv1x1_backward(const Elements& elements, const Gradient& grad_output, const Map& input, const Norm& norm,
                              const Memory& weight, const Map& grad_input, const Memory& grad_weight,
                              const Sums& sums) {
  const Arguments arguments("bn_relu_conv1x1_backward", elements);
  const Map& grad = grad_output.grad;
  arguments.gradient(grad_output);
  arguments.map("input", input, grad.n, grad.h, grad.w, input.c);
  arguments.norm(norm, input.c);
  arguments.weight(weight, grad.c * input.c);
  arguments.optional_map("grad_input", grad_input, input);
  arguments.grad_weight(grad_weight, grad.c * input.c);
  arguments.sums(sums, input.c);
}

void bn_relu_conv3x3_forward(const Elements& elements, const Map& input, int64_t input_first_row, const Norm& norm,
                             const Memory& weight, int64_t dilation, const Map& output, const Memory& output_mean,
                             const Memory& output_variance) {
  const Arguments arguments("bn_relu_conv3x3_forward", elements);
  arguments.map("input", input);
  arguments.norm(norm, input.c);
  arguments.map("output", output, input.n, output.h, input.w, output.c);
  arguments.rows("input", input_first_row, output.h, input.h);
  arguments.expect(dilation > 0, "dilation must be positive");
  arguments.weight(weight, output.c * 9 * padded(elements, input.c));
  arguments.statistics(output_mean, output_variance, output.c);
}

void bn_relu_conv3x3_backward(const Elements& elements, const Gradient& grad_output, int64_t grad_first_row,
                              const Map& input, int64_t input_first_row, const Norm& norm, const Memory& weight,
                              int64_t dilation, const Map& grad_input, const Memory& grad_weight, const Sums& sums) {
  const Arguments arguments("bn_relu_conv3x3_backward", elements);
  const Map& grad = grad_output.grad;
  arguments.gradient(grad_output);
  arguments.map("input", input, grad.n, input.h, grad.w, input.c);
  arguments.norm(norm, input.c);
  arguments.map("grad_input", grad_input, input.n, grad_input.h, input.w, input.c);
  arguments.rows("input", input_first_row, grad_input.h, input.h);
  arguments.rows("grad_output", grad_first_row, grad_input.h, grad.h);
  arguments.expect(dilation > 0, "dilation must be positive");
  arguments.weight(weight, 9 * padded(elements, grad.c) * padded(elements, input.c));
  arguments.grad_weight(grad_weight, 9 * grad.c * padded(elements, input.c));
  arguments.sums(sums, input.c);
}

void bn_relu_avgpool2_forward(const Elements& elements, const Map& input, const Norm& norm, const Map& output) {
  const Arguments arguments("bn_relu_avgpool2_forward", elements);
  arguments.map("input", input);
  arguments.norm(norm, input.c);
  arguments.map("output", output, input.n, input.h / 2, input.w / 2, input.c);
}

void bn_relu_avgpool2_backward(const Elements& elements, const Map& grad_output, const Map& input, const Norm& norm,
                               const Map& grad_input, const Sums& sums) {
  const Arguments arguments("bn_relu_avgpool2_backward", elements);
  arguments.map("input", input);
  arguments.norm(norm, input.c);
  arguments.map("grad_output", grad_output, input.n, input.h / 2, input.w / 2, input.c);
  arguments.map("grad_input", grad_input, input.n, input.h, input.w, input.c);
  arguments.sums(sums, input.c);
}

void bn_relu_maxpool_forward(const Elements& elements, const Map& input, const Norm& norm, const Map& output,
                             int64_t first_row) {
  const Arguments arguments("bn_relu_maxpool_forward", elements);
  arguments.map("input", input);
  if (elements.partial_norms)
    arguments.norm_or_scale(norm, input.c);
  else
    arguments.norm(norm, input.c);
  arguments.map("output", output, input.n, output.h, (input.w + 1) / 2, input.c);
  if (output.h > 0) arguments.rows("input", first_row, 2 * output.h - 1, input.h);
}

void bn_relu_maxpool_backward(const Elements& elements, const Map& grad_output, const Map& input, const Norm& norm,
                              const Map& grad_input, int64_t first_row, int64_t first_grad_row, const Sums& sums,
                              const Memory& constant, const Memory& slope) {
  const Arguments arguments("bn_relu_maxpool_backward", elements);
  arguments.map("input", input);
  arguments.norm(norm, input.c);
  arguments.map("grad_output", grad_output, input.n, grad_output.h, (input.w + 1) / 2, input.c);
  if (grad_input.data || !elements.partial_norms) arguments.map("grad_input", grad_input);
  arguments.shaped("grad_input", grad_input, input.n, grad_input.h, input.w, input.c);
  arguments.expect(first_row >= 0, "first_row must not be negative");
  arguments.rows("input", first_grad_row, grad_input.h, input.h);
  arguments.sums(sums, input.c);
  arguments.expect(!constant.given == !slope.given, "constant and slope are given together");
  arguments.optional_vector("constant", constant, input.c);
  arguments.optional_vector("slope", slope, input.c);
}

void stem_forward(const Elements& elements, const ImageBatch& images, const Memory& weight, const Norm& norm,
                  const Map& output, const Memory& mean, const Memory& variance) {
  const Arguments arguments("stem_forward", elements);
  arguments.map("output", output);
  arguments.stem(images, weight, output);
  arguments.norm_or_scale(norm, output.c);
  arguments.statistics(mean, variance, output.c);
}

void stem_backward_sums(const Elements& elements, const Gradient& grad_output, const ImageBatch& images,
                        const Memory& weight, const Norm& norm, const Sums& sums) {
  const Arguments arguments("stem_backward_sums", elements);
  arguments.gradient(grad_output);
  arguments.stem(images, weight, grad_output.grad);
  arguments.norm(norm, grad_output.grad.c);
  arguments.sums(sums, grad_output.grad.c);
}

void stem_backward_weight(const Elements& elements, const Gradient& grad_output, const ImageBatch& images,
                          const Memory& weight, const Norm& norm, const Memory& constant, const Memory& slope,
                          const Memory& grad_weight) {
  const Arguments arguments("stem_backward_weight", elements);
  const int64_t outputs = grad_output.grad.c;
  arguments.gradient(grad_output);
  arguments.stem(images, weight, grad_output.grad);
  arguments.norm(norm, outputs);
  arguments.vector("constant", constant, outputs);
  arguments.vector("slope", slope, outputs);
  arguments.expect(grad_weight.given, "grad_weight has no memory");
  arguments.grad_weight(grad_weight, outputs * images.c * 49);
}

void upsample_forward(const Elements& elements, const Map& coarse, const Map& output, int64_t first_row,
                      int64_t height) {
  const Arguments arguments("upsample_forward", elements);
  arguments.map("coarse", coarse);
  arguments.map("output", output, coarse.n, output.h, output.w, coarse.c);
  arguments.rows("the upsampled map", first_row, output.h, height);
  arguments.expect(!coarse.empty() || output.empty(), "coarse has no pixels");
}

void upsample_backward(const Elements& elements, const Map& grad_output, const Map& grad_coarse) {
  const Arguments arguments("upsample_backward", elements);
  arguments.map("grad_output", grad_output);
  arguments.map("grad_coarse", grad_coarse, grad_output.n, grad_coarse.h, grad_coarse.w, grad_output.c);
  arguments.expect(!grad_coarse.empty() || grad_output.empty(), "grad_coarse has no pixels");
}

void upsample_project_concat_forward(const Elements& elements, const Map& coarse, const Map& skip, const Norm& norm,
                                     const Memory& weight, const Map& output) {
  const Arguments arguments("upsample_project_concat_forward", elements);
  arguments.map("coarse", coarse, skip.n, coarse.h, coarse.w, coarse.c);
  arguments.map("skip", skip);
  arguments.norm(norm, skip.c);
  arguments.map("output", output, skip.n, skip.h, skip.w, output.c);
  arguments.expect(output.c > coarse.c, "output has no channels for the projection");
  arguments.expect(!coarse.empty() || skip.empty(), "coarse has no pixels");
  arguments.weight(weight, (output.c - coarse.c) * skip.c);
}

void upsample_cross_entropy(const Elements& elements, const Map& logits, const Memory& labels, LabelType label_type,
                            int64_t height, int64_t width, const Memory& class_weights, const Memory& loss,
                            const Map& grad_logits, const Memory& invalid_pixel) {
  const Arguments arguments("upsample_cross_entropy", elements);
  const int64_t label_bytes = label_type == LabelType::uint8 ? 1 : label_type == LabelType::int32 ? 4 : 8;
  arguments.map("logits", logits);
  arguments.expect(logits.h > 0 && logits.w > 0 && height > 0 && width > 0, "logits and labels must have pixels");
  arguments.memory("labels", labels, logits.n * height * width, label_bytes);
  arguments.optional_vector("class_weights", class_weights, logits.c);
  arguments.memory("loss", loss, 1, kDouble);
  arguments.optional_map("grad_logits", grad_logits, logits);
  arguments.memory("invalid_pixel", invalid_pixel, 1, sizeof(int64_t));
}

void upsample_argmax(const Elements& elements, const Map& scores, const Memory& labels, int64_t height, int64_t width) {
  const Arguments arguments("upsample_argmax", elements);
  arguments.map("scores", scores);
  arguments.expect(scores.c <= 256, "scores are of more than 256 classes");
  arguments.expect(scores.h > 0 && scores.w > 0 && height > 0 && width > 0, "scores and labels must have pixels");
  arguments.memory("labels", labels, scores.n * height * width, 1);
}

}  // namespace ladderseg::check
