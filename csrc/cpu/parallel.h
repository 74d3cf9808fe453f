// Teams of threads, and the division of work among them: static, so that the order of every sum is fixed.
#pragma once

#include <cstdint>

#include "ladderseg/contention.h"
#include "ladderseg/feature_map.h"
#include "ladderseg/openmp.h"
#include "team_order.h"

namespace ladderseg {
namespace LADDERSEG_ISA {

struct Range {
  int64_t begin, end;
};

// Part `part` of `parts` of [0, total), in multiples of `grain`.
LADDERSEG_INLINE Range split(int64_t total, int part, int parts, int64_t grain = 1) {
  const int64_t blocks = (total + grain - 1) / grain;
  const int64_t begin = blocks * part / parts * grain;
  const int64_t end = blocks * (part + 1) / parts * grain;
  return {begin < total ? begin : total, end < total ? end : total};
}

// Runs body(member, team) on a team of `threads`, or fewer if the OpenMP runtime grants fewer.
template <class Body>
LADDERSEG_UNWATCHED void parallel(int threads, const Body& body) {
  if (threads <= 1) {
    body(0, 1);
    return;
  }
  start_work();
  TeamOrder order;
  run_team(threads, [&]() LADDERSEG_UNWATCHED {
    order.begin();
    const int member = omp_get_thread_num();
    body(member, omp_get_num_threads());
    if (member == 0) start_waiting();
    order.end();
  });
  order.after_all();
  end_waiting();
}

// Waits for the other members; for use inside parallel()'s body.
LADDERSEG_INLINE void barrier(int team) {
  if (team > 1) {
    const bool first = omp_get_thread_num() == 0;
    if (first) start_waiting();
    TeamOrder::meet();
    GOMP_barrier();
    TeamOrder::part();
    if (first) end_waiting();
  }
}

}  // namespace LADDERSEG_ISA
}  // namespace ladderseg
