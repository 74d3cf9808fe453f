// Working memory of one operator call.
//
// An operator lays out its regions and reserves them once, in the calling thread and before its team starts (so that
// running out of memory is an exception that can be caught). Each member takes its own part. The calling thread
// keeps the block for its next call: fresh pages cost more than the arithmetic done on them.
#pragma once

#include <cstddef>
#include <cstdint>

#include "ladderseg/feature_map.h"

namespace ladderseg {

// A block of at least `bytes`, aligned to kScratchAlignment, valid until this thread's next call.
// Throws std::bad_alloc.
char* reserve_scratch(size_t bytes);

// Two cache lines: neighbouring members of a team share none, and prefetching in pairs does not couple them.
constexpr size_t kScratchAlignment = 128;

template <class T>
struct Region {
  size_t offset;
  LADDERSEG_INLINE T* in(char* base) const { return reinterpret_cast<T*>(base + offset); }
};

struct ScratchLayout {
  size_t bytes = 0;

  template <class T>
  LADDERSEG_INLINE Region<T> add(int64_t count) {
    const Region<T> region{bytes};
    const size_t size = static_cast<size_t>(count) * sizeof(T);
    bytes += (size + kScratchAlignment - 1) / kScratchAlignment * kScratchAlignment;
    return region;
  }
};

}  // namespace ladderseg
