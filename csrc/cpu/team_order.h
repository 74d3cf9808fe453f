// For ThreadSanitizer: the order that OpenMP gives to the members of a team, which it does not see, for nobody compiles
// the OpenMP runtime under it. In all other builds nothing is left of this.
//
// What is said here is what OpenMP promises: the team begins after what its first member has done before, all members
// pass a barrier after all have come to it, and the first member goes on after all have ended.
#pragma once

#include "ladderseg/feature_map.h"

#if defined(__SANITIZE_THREAD__)

#include <sanitizer/tsan_interface.h>

// For a function with a parallel region: its members read where its variables are before they can say that they may.
#define LADDERSEG_UNWATCHED __attribute__((no_sanitize("thread")))

namespace ladderseg {

// Lives on the stack of a team's first member; the addresses of its parts stand for the events.
class TeamOrder {
 public:
  TeamOrder() { __tsan_release(&begun_); }

  LADDERSEG_INLINE void begin() {
    __tsan_acquire(&begun_);
    present() = this;
    meetings() = 0;
  }
  // Two barriers in turn: a member that has passed one may come to the next before others have left the first.
  static LADDERSEG_INLINE void meet() { __tsan_release(&present()->met_[meetings() & 1]); }
  static LADDERSEG_INLINE void part() { __tsan_acquire(&present()->met_[meetings()++ & 1]); }
  LADDERSEG_INLINE void end() { __tsan_release(&ended_); }

  LADDERSEG_INLINE void after_all() { __tsan_acquire(&ended_); }

 private:
  // Of the team that the calling thread is a member of.
  static TeamOrder*& present() {
    thread_local TeamOrder* value = nullptr;
    return value;
  }
  static unsigned& meetings() {
    thread_local unsigned value = 0;
    return value;
  }

  char begun_, met_[2], ended_;
};

}  // namespace ladderseg

#else

#define LADDERSEG_UNWATCHED

namespace ladderseg {

class TeamOrder {
 public:
  LADDERSEG_INLINE void begin() {}
  static LADDERSEG_INLINE void meet() {}
  static LADDERSEG_INLINE void part() {}
  LADDERSEG_INLINE void end() {}
  LADDERSEG_INLINE void after_all() {}
};

}  // namespace ladderseg

#endif
