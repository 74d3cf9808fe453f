// Barriers of the block: counts arrivals, and releases the lanes that wait.
#include "barriers.h"

#include "report.h"

namespace emulator {
namespace {

constexpr u32 barriers_of_a_block = 16;

bool waits_at(const Group& group, u32 barrier) { return group.state == Group::at_barrier && group.barrier == barrier; }

u32 waiting_threads(const Block& block, u32 barrier) {
  u32 threads = 0;
  for (const Warp& warp : block.warps)
    for (const Group& group : warp.groups)
      if (waits_at(group, barrier)) threads += (u32)__builtin_popcount(group.lanes);
  return threads;
}

// bar.red: how many of the waiting threads have a true predicate.
u32 true_predicates(Block& block, u32 barrier) {
  u32 count = 0;
  for (Warp& warp : block.warps) {
    for (const Group& group : warp.groups) {
      const Instruction& i = warp.launch->program->code[group.pc];
      if (!waits_at(group, barrier) || !i.immediate) continue;
      const u32 predicate = warp.predicate(i.source[i.sources - 1]) ^ (i.negated_source ? all_lanes : 0);
      count += (u32)__builtin_popcount(predicate & group.lanes);
    }
  }
  return count;
}

void deliver_reduction(Warp& warp, const Instruction& i, u32 lanes, u32 count, u32 threads) {
  if (!i.immediate) return;
  if (i.immediate == reduce_count) {
    for_each_lane(lanes, [&](u32 lane) { warp.set_value(i.destination[0], lane, count); });
    return;
  }
  const bool result = i.immediate == reduce_and ? count == threads : count > 0;
  u32& predicate = warp.predicate(i.destination[0]);
  predicate = (predicate & ~lanes) | (result ? lanes : 0);
}

void open(Block& block, u32 barrier) {
  const u32 count = true_predicates(block, barrier), threads = waiting_threads(block, barrier);
  for (Warp& warp : block.warps) {
    for (Group& group : warp.groups) {
      if (!waits_at(group, barrier)) continue;
      deliver_reduction(warp, warp.launch->program->code[group.pc], group.lanes, count, threads);
      group.state = Group::running;
      ++group.pc;
    }
  }
  block.arrived_only[barrier] = 0;
  ++block.epoch;
}

std::string waiting_text(const Warp& warp, const Group& group) {
  return std::to_string(__builtin_popcount(group.lanes)) + " threads of warp " + std::to_string(warp.index) +
         " wait at " + place(*warp.launch->program, group.pc);
}

// Who waits where, one line for each instruction.
std::string describe_waiting(const Block& block) {
  std::string text;
  std::vector<u32> told;
  for (const Warp& warp : block.warps) {
    for (const Group& group : warp.groups) {
      bool known = false;
      for (u32 pc : told) known |= pc == group.pc;
      if (known) continue;
      told.push_back(group.pc);
      text += "\n  " + waiting_text(warp, group);
    }
  }
  return text;
}

[[noreturn]] void deadlock(Block& block) {
  u32 exited = 0;
  const Group* collective = nullptr;
  const Warp* its_warp = nullptr;
  for (const Warp& warp : block.warps) {
    exited += (u32)__builtin_popcount(warp.exited);
    for (const Group& group : warp.groups) {
      if (group.state != Group::at_collective || collective) continue;
      collective = &group;
      its_warp = &warp;
    }
  }
  std::string text;
  if (collective) {
    const u32 absent = collective->member_mask & ~collective->lanes;
    text = absent & its_warp->exited ? "the member mask names lanes that have exited"
                                     : "lanes of the member mask never arrive";
  } else {
    text = "divergent barrier";
    if (exited) text += ": " + std::to_string(exited) + " threads of the block have exited";
  }
  throw Violation{error_launch_failed, text + describe_waiting(block), 0};
}

}  // namespace

void arrive_at_barrier(Block& block, Warp& warp, const Instruction& i, u32 pc, u32 lanes) {
  const u32* ids = warp.slot<u32>(i.source[0]);
  const u32 first = (u32)__builtin_ctz(lanes), id = ids[first];
  u32 threads = i.flag ? warp.slot<u32>(i.source[1])[first] : 0;
  if (threads == block.threads && i.flow == Flow::barrier) threads = 0;  // the same as without a number
  for_each_lane(lanes, [&](u32 lane) {
    if (ids[lane] != id) throw Violation{error_launch_failed, "lanes name different barriers", lanes};
  });
  if (id >= barriers_of_a_block || threads % warp_size)
    throw Violation{error_launch_failed, "barrier number or count of threads out of range", lanes};

  if (i.flow == Flow::arrive) {
    block.arrived_only[id] += (u32)__builtin_popcount(lanes);
    warp.groups.push_back({pc + 1, lanes, Group::running, 0, 0, 0});
  } else {
    bool merged = false;
    for (Group& group : warp.groups) {
      if (!waits_at(group, id) || group.pc != pc) continue;
      group.lanes |= lanes;
      merged = true;
    }
    if (!merged) warp.groups.push_back({pc, lanes, Group::at_barrier, 0, id, threads});
  }
  if (!threads) return;
  const u32 arrived = waiting_threads(block, id) + block.arrived_only[id];
  if (arrived > threads) throw Violation{error_launch_failed, "more threads at a barrier than it is for", lanes};
  if (arrived == threads) open(block, id);
}

bool release_barrier(Block& block) {
  const Group* first = nullptr;
  u32 waiting = 0;
  for (const Warp& warp : block.warps) {
    for (const Group& group : warp.groups) {
      if (!first) first = &group;
      const bool same = group.state == Group::at_barrier && group.pc == first->pc && group.barrier == first->barrier &&
                        group.barrier_threads == 0;
      if (!same) deadlock(block);
      waiting += (u32)__builtin_popcount(group.lanes);
    }
  }
  if (!first) return false;
  if (waiting != block.threads) deadlock(block);
  open(block, first->barrier);
  return true;
}

}  // namespace emulator
