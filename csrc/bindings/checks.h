// Checks before a kernel runs: each argument has memory of the extent and element size that the kernel will read or
// write, and all arguments are on one device. The kernels themselves check nothing.
//
// All checks throw std::invalid_argument, in Python a ValueError, with the names of the kernel and the argument, and
// what was expected.
#pragma once

#include <string>

#include "arguments.h"

namespace ladderseg::bindings {

// Element sizes of a call's memory, and properties of its device.
struct Elements {
  int64_t map;     // bytes of an element of maps
  int64_t weight;  // bytes of an element of weights
  int64_t real;    // bytes of an element of vectors and weight gradients
  int64_t chunk;   // weights of 3x3 convolutions have their channels padded to multiples of this
};

// The arguments of one call of `kernel`.
class Checks {
 public:
  static constexpr int64_t kDouble = sizeof(double);

  Checks(const char* kernel, const Elements& elements) : elements(elements), kernel_(kernel) {}

  const Elements elements;

  [[noreturn]] void fail(const std::string& what) const;
  void expect(bool holds, const char* what) const {
    if (!holds) fail(what);
  }

  // A map of any shape; of this shape.
  void map(const char* name, const Map& map) const;
  void map(const char* name, const Map& map, int64_t n, int64_t h, int64_t w, int64_t c) const;
  void map_like(const char* name, const Map& map, const Map& like) const {
    this->map(name, map, like.n, like.h, like.w, like.c);
  }
  // A map that may be left out.
  void optional_map(const char* name, const Map& map, const Map& like) const;
  void shaped(const char* name, const Map& map, int64_t n, int64_t h, int64_t w, int64_t c) const;
  // `count` rows from `first` on lie within `height`.
  void rows(const char* name, int64_t first, int64_t count, int64_t height) const;

  void memory(const char* name, const Memory& memory, int64_t count, int64_t element_bytes) const;
  void optional_memory(const char* name, const Memory& memory, int64_t count, int64_t element_bytes) const;
  void vector(const char* name, const Memory& vector, int64_t channels) const;
  void optional_vector(const char* name, const Memory& vector, int64_t channels) const;
  void weight(const Memory& weight, int64_t count) const;
  void grad_weight(const Memory& weight, int64_t count) const;
  void unprepared_weight(const Weight& weight) const;

  void norm(const Norm& norm, int64_t channels) const;
  // A norm that may be left out.
  void optional_norm(const char* name, const Norm& norm, int64_t channels) const;
  // The whole norm, or only its scale.
  void norm_or_scale(const Norm& norm, int64_t channels) const;
  // Both vectors or neither.
  void statistics(const Memory& mean, const Memory& variance, int64_t channels) const;
  void sums(const Sums& sums, int64_t channels) const;
  void gradient(const Gradient& gradient) const;
  void stem(const ImageBatch& images, const Memory& weights, const Map& pooled, int64_t strip_bytes) const;

  int64_t padded(int64_t channels) const { return (channels + elements.chunk - 1) / elements.chunk * elements.chunk; }

 private:
  // Memory is present if there are elements, and on the same device as the arguments before.
  void located(const char* name, const void* data, int64_t device, bool has_elements) const;

  const char* const kernel_;
  mutable bool located_ = false;
  mutable int64_t device_ = 0;
};

}  // namespace ladderseg::bindings
