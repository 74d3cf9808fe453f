// Requests memory before it is needed. The pixels of a feature map lie too far apart for the processor's own
// prefetching; a few requests at a time during the preceding products cost next to nothing.
#pragma once

#include <cstdint>

#include "ladderseg/feature_map.h"

namespace ladderseg {
namespace LADDERSEG_ISA {

constexpr int64_t kCacheLine = 64;

// Prefetches `count` elements into the second-level cache.
template <class T>
LADDERSEG_INLINE void prefetch(const T* from, int64_t count) {
  for (int64_t i = 0; i < count; i += kCacheLine / static_cast<int64_t>(sizeof(T))) {
    __builtin_prefetch(from + i, 0, 2);
    asm volatile("");  // otherwise GCC removes a function that only prefetches, as one without effect
  }
}

// Prefetches part `part` of `parts` of `count` rows, `width` elements of each.
template <class T>
LADDERSEG_INLINE void prefetch_rows(const T* rows, int64_t row_stride, int64_t count, int64_t width, int64_t part,
                                    int64_t parts) {
  const int64_t end = count * (part + 1) / parts;
  for (int64_t i = count * part / parts; i < end; ++i) prefetch(rows + i * row_stride, width);
}

// Lines of memory that hold `count` elements.
template <class T>
LADDERSEG_INLINE int64_t lines_of(int64_t count) {
  constexpr int64_t line = kCacheLine / static_cast<int64_t>(sizeof(T));
  return (count + line - 1) / line;
}

// Requests `rows` rows of `width` elements, some lines by each of `calls` calls.
template <class T>
class RowRequests {
 public:
  LADDERSEG_INLINE RowRequests(const T* row, int64_t row_stride, int64_t rows, int64_t width, int64_t calls)
      : row_(row),
        row_stride_(row_stride),
        rows_(rows),
        width_(width),
        lines_((rows * lines_of<T>(width) + calls - 1) / calls) {}

  LADDERSEG_INLINE void operator()() {
    for (int64_t i = 0; i < lines_ && rows_ > 0; ++i) {
      prefetch(row_ + column_, 1);
      column_ += kCacheLine / static_cast<int64_t>(sizeof(T));
      if (column_ < width_) continue;
      column_ = 0;
      row_ += row_stride_;
      --rows_;
    }
  }

 private:
  const T* row_;
  int64_t row_stride_, rows_, width_, lines_, column_ = 0;
};

}  // namespace LADDERSEG_ISA
}  // namespace ladderseg
