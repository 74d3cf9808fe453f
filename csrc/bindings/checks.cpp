// The checks of checks.h.
#include "checks.h"

#include <stdexcept>

namespace ladderseg::bindings {
namespace {

std::string shape(int64_t n, int64_t h, int64_t w, int64_t c) {
  return "[" + std::to_string(n) + ", " + std::to_string(c) + ", " + std::to_string(h) + ", " + std::to_string(w) + "]";
}

std::string shape(const Map& map) { return shape(map.n, map.h, map.w, map.c); }

}  // namespace

void Checks::fail(const std::string& what) const { throw std::invalid_argument(std::string(kernel_) + ": " + what); }

void Checks::located(const char* name, const void* data, int64_t device, bool has_elements) const {
  if (!data && has_elements) fail(std::string(name) + " has no memory");
  if (data && located_ && device != device_) fail(std::string(name) + " is on another device than other arguments");
  if (data) located_ = true, device_ = device;
}

void Checks::map(const char* name, const Map& map) const {
  if (map.n < 0 || map.h < 0 || map.w < 0 || map.c < 1 || map.pixel_stride < map.c)
    fail(std::string(name) + " has no valid shape: " + shape(map) + ", pixel stride " +
         std::to_string(map.pixel_stride));
  if (map.element_bytes != elements.map)
    fail(std::string(name) + " has elements of " + std::to_string(map.element_bytes) + " bytes, expected " +
         std::to_string(elements.map));
  located(name, map.data, map.device, !map.empty());
}

void Checks::map(const char* name, const Map& map, int64_t n, int64_t h, int64_t w, int64_t c) const {
  this->map(name, map);
  shaped(name, map, n, h, w, c);
}

void Checks::optional_map(const char* name, const Map& map, const Map& like) const {
  if (!map.absent()) map_like(name, map, like);
}

void Checks::shaped(const char* name, const Map& map, int64_t n, int64_t h, int64_t w, int64_t c) const {
  if (map.n != n || map.h != h || map.w != w || map.c != c)
    fail(std::string(name) + " is " + shape(map) + ", expected " + shape(n, h, w, c));
}

void Checks::rows(const char* name, int64_t first, int64_t count, int64_t height) const {
  if (first < 0 || first > height - count)
    fail(std::string(name) + ": " + std::to_string(count) + " rows from row " + std::to_string(first) +
         " on are not within its " + std::to_string(height));
}

void Checks::memory(const char* name, const Memory& memory, int64_t count, int64_t element_bytes) const {
  located(name, memory, memory.device, count > 0);
  if (memory.bytes != count * element_bytes)
    fail(std::string(name) + " has " + std::to_string(memory.bytes) + " bytes, expected " + std::to_string(count) +
         " elements of " + std::to_string(element_bytes) + " bytes");
}

void Checks::optional_memory(const char* name, const Memory& memory, int64_t count, int64_t element_bytes) const {
  if (memory.given) this->memory(name, memory, count, element_bytes);
}

void Checks::vector(const char* name, const Memory& vector, int64_t channels) const {
  memory(name, vector, channels, elements.real);
}

void Checks::optional_vector(const char* name, const Memory& vector, int64_t channels) const {
  optional_memory(name, vector, channels, elements.real);
}

void Checks::weight(const Memory& weight, int64_t count) const { memory("weight", weight, count, elements.weight); }

void Checks::grad_weight(const Memory& weight, int64_t count) const {
  optional_memory("grad_weight", weight, count, elements.real);
}

void Checks::unprepared_weight(const Weight& w) const {
  expect(w.outputs > 0 && w.channels > 0 && w.taps > 0 && w.stride >= w.channels * w.taps, "a weight has no shape");
  const int64_t bytes = w.real ? elements.real : elements.map;
  memory("a weight", w.source, (w.outputs - 1) * w.stride + w.channels * w.taps, bytes);
  const int64_t outputs = w.form == WeightForm::backward ? padded(w.outputs) : w.outputs;
  const int64_t channels = w.form == WeightForm::plain ? w.channels : padded(w.channels);
  expect(outputs * channels * w.taps < int64_t(1) << 31, "a weight is too large");
  memory("a prepared weight", w.prepared, outputs * channels * w.taps, elements.map);
}

void Checks::norm(const Norm& norm, int64_t channels) const {
  vector("mean", norm.mean, channels);
  vector("scale", norm.scale, channels);
  vector("shift", norm.shift, channels);
}

void Checks::optional_norm(const char* name, const Norm& norm, int64_t channels) const {
  const bool complete = norm.mean.given == norm.scale.given && norm.mean.given == norm.shift.given;
  if (!complete) fail(std::string(name) + " is not complete");
  for (const Memory* vector : {&norm.mean, &norm.scale, &norm.shift}) optional_vector(name, *vector, channels);
}

void Checks::norm_or_scale(const Norm& norm, int64_t channels) const {
  vector("scale", norm.scale, channels);
  expect(norm.mean.given == norm.shift.given, "mean and shift are given together");
  optional_vector("mean", norm.mean, channels);
  optional_vector("shift", norm.shift, channels);
}

void Checks::statistics(const Memory& mean, const Memory& variance, int64_t channels) const {
  expect(mean.given == variance.given, "mean and variance are wanted together");
  optional_memory("mean", mean, channels, kDouble);
  optional_memory("variance", variance, channels, kDouble);
}

void Checks::sums(const Sums& sums, int64_t channels) const {
  memory("masked", sums.masked, channels, kDouble);
  memory("centred", sums.centred, channels, kDouble);
}

void Checks::gradient(const Gradient& gradient) const {
  const int64_t channels = gradient.grad.c;
  map("grad_output", gradient.grad);
  const Correction& correction = gradient.correction;
  if (correction.input.absent()) return;
  map_like("the gradient's input", correction.input, gradient.grad);
  vector("the gradient's mean", correction.mean, channels);
  vector("the gradient's constant", correction.constant, channels);
  vector("the gradient's slope", correction.slope, channels);
}

void Checks::stem(const ImageBatch& images, const Memory& weights, const Map& pooled, int64_t strip_bytes) const {
  expect(images.n >= 0 && images.c > 0 && images.h >= 0 && images.w >= 0, "images have no valid shape");
  expect(images.element_bytes == elements.map, "images are of another element type");
  located("images", images.data, images.device, images.n > 0 && images.h > 0 && images.w > 0);
  shaped("the pooled map", pooled, images.n, (images.h + 3) / 4, (images.w + 3) / 4, pooled.c);
  weight(weights, pooled.c * images.c * 49);
  expect(strip_bytes > 0, "strip_bytes must be positive");
}

}  // namespace ladderseg::bindings
