// Conversion of the core's arguments to the buffers that a launch touches.
#pragma once

#include "../kernels/arguments.h"
#include "../runtime/launch.h"
#include "ladderseg/feature_map.h"

namespace ladderseg::cuda {

// Whether every pixel of a map can be read 16 bytes at a time.
template <class T>
bool wide(const Queue& queue, const FeatureMap<T>& map) {
  const int64_t bytes = element_bytes(queue.element);
  return reinterpret_cast<uintptr_t>(map.data) % 16 == 0 && map.pixel_stride * bytes % 16 == 0 &&
         map.c * bytes % 16 == 0;
}

inline bool wide(const Queue& queue, const Gradient<void>& gradient) {
  return wide(queue, gradient.grad) && (!gradient.input.data || wide(queue, gradient.input));
}

inline bool aligned(const void* data) { return reinterpret_cast<uintptr_t>(data) % 16 == 0; }

// Whether vectors can be read 16 bytes at a time.
inline bool wide(const Norm<void>& norm) { return aligned(norm.mean) && aligned(norm.scale) && aligned(norm.shift); }

inline bool wide_correction(const Gradient<void>& gradient) {
  return !gradient.input.data || (aligned(gradient.mean) && aligned(gradient.constant) && aligned(gradient.slope));
}

inline Buffer buffer(const void* data, int64_t bytes, Access access, const char* name) {
  return {data, 1, bytes, bytes, static_cast<int>(access), name};
}

template <class T>
Buffer buffer(const Queue& queue, const FeatureMap<T>& map, Access access, const char* name) {
  const int64_t bytes = element_bytes(queue.element);
  return {map.data, map.pixels(), map.c * bytes, map.pixel_stride * bytes, static_cast<int>(access), name};
}

// A vector of Reals.
inline Buffer vector_buffer(const Queue& queue, const void* data, int64_t count, const char* name,
                            Access access = Access::read) {
  return buffer(data, count * real_bytes(queue.element), access, name);
}

inline void add_norm(const Queue& queue, const Norm<void>& norm, int64_t channels, std::vector<Buffer>& buffers) {
  buffers.push_back(vector_buffer(queue, norm.mean, channels, "mean"));
  buffers.push_back(vector_buffer(queue, norm.scale, channels, "scale"));
  buffers.push_back(vector_buffer(queue, norm.shift, channels, "shift"));
}

inline void add_gradient(const Queue& queue, const Gradient<void>& gradient, std::vector<Buffer>& buffers) {
  buffers.push_back(buffer(queue, gradient.grad, Access::read, "grad"));
  if (!gradient.input.data) return;
  buffers.push_back(buffer(queue, gradient.input, Access::read, "grad's input"));
  buffers.push_back(vector_buffer(queue, gradient.mean, gradient.grad.c, "grad's mean"));
  buffers.push_back(vector_buffer(queue, gradient.constant, gradient.grad.c, "constant"));
  buffers.push_back(vector_buffer(queue, gradient.slope, gradient.grad.c, "slope"));
}

}  // namespace ladderseg::cuda
