// What is checked before a kernel runs: each argument has memory, of the extent and element size that the kernel will
// read or write there, and all are on one device. A kernel itself checks nothing.
//
// All throw std::invalid_argument, in Python a ValueError, with the kernel's name, the argument's, and what was
// expected.
#pragma once

#include <string>

#include "arguments.h"

namespace ladderseg::bindings {

// What the memory of a call consists of, on the device that it is for.
struct Elements {
  int64_t map;        // bytes of an element of maps and weights
  int64_t real;       // bytes of an element of vectors and weight gradients
  int64_t chunk;      // weights of 3x3 convolutions have their channels padded to multiples of this
  bool unfused_stem;  // max pooling can do what bn_relu_maxpool.h says of CUDA devices
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

  void norm(const Norm& norm, int64_t channels) const;
  // All of it, or the scale alone.
  void norm_or_scale(const Norm& norm, int64_t channels) const;
  // Both or none.
  void statistics(const Memory& mean, const Memory& variance, int64_t channels) const;
  void sums(const Sums& sums, int64_t channels) const;
  void gradient(const Gradient& gradient) const;
  void stem(const ImageBatch& images, const Memory& weights, const Map& pooled) const;

  int64_t padded(int64_t channels) const { return (channels + elements.chunk - 1) / elements.chunk * elements.chunk; }

 private:
  // There is memory if there are elements, where that of the arguments before was.
  void located(const char* name, const void* data, int64_t device, bool has_elements) const;

  const char* const kernel_;
  mutable bool located_ = false;
  mutable int64_t device_ = 0;
};

}  // namespace ladderseg::bindings
