// Runs blocks, warps and diverged lanes in random order; gathers the lanes of collectives.
#include "scheduler.h"

#include <algorithm>
#include <numeric>

#include "barriers.h"
#include "decoder.h"
#include "report.h"

namespace emulator {
namespace {

constexpr u64 endless = 1ull << 30;  // instructions of one warp in one block

u32 guarded_lanes(Warp& warp, const Instruction& i, u32 lanes) {
  if (!i.guarded) return lanes;
  const u32 predicate = warp.predicate(i.guard);
  return lanes & (i.guard_negated ? ~predicate : predicate);
}

[[noreturn]] void read_of_unwritten_register(u32 lanes) {
  throw Violation{error_launch_failed, "read of a register that was never written", lanes};
}

// Checks that what the active lanes read has been written, and notes what they write.
inline void track_registers(Warp& warp, const Instruction& i, u32 active) {
  u32 missing = 0;
  for (u32 s = 0; s < i.checked; ++s) missing |= active & ~warp.written[i.source[s].id];
  if (missing) read_of_unwritten_register(missing);
  for (u32 d = 0; d < i.destinations; ++d) warp.written[i.destination[d].id] |= active;
}

void add_running(Warp& warp, u32 pc, u32 lanes) {
  if (!lanes) return;
  for (Group& group : warp.groups) {
    if (group.state != Group::running || group.pc != pc) continue;
    group.lanes |= lanes;
    return;
  }
  warp.groups.push_back({pc, lanes, Group::running, 0, 0, 0});
}

void exit_lanes(Warp& warp, u32 lanes) {
  for_each_lane(lanes, [&](u32 lane) {
    if (!warp.pending[lane].empty())
      throw Violation{error_launch_failed,
                      "cp.async not waited for: exit before the copy issued at " +
                          place(*warp.launch->program, warp.pending[lane][0].pc) + " is complete",
                      1u << lane};
  });
  warp.exited |= lanes;
}

void check_members(Warp& warp, u32 lanes, u32 mask) {
  char text[16];
  std::snprintf(text, sizeof text, "0x%08x", mask);
  if (lanes & ~mask)
    throw Violation{error_launch_failed, std::string("lane is not in its own member mask ") + text, lanes & ~mask};
  if (mask & ~warp.existing)
    throw Violation{error_launch_failed,
                    std::string("member mask ") + text + " names lanes that the block does not have", lanes};
  if (mask & warp.exited)
    throw Violation{error_launch_failed, std::string("member mask ") + text + " names lanes that have exited", lanes};
}

// Do lanes that wait in `group` take part in what `lanes` do at `pc`? A bar.warp.sync may be met from another one.
bool same_collective(const Program& program, const Group& group, u32 pc, u32 mask) {
  if (group.state != Group::at_collective || group.member_mask != mask) return false;
  return group.pc == pc || (program.code[pc].flag2 && program.code[group.pc].flag2);
}

// The lanes arrive with one mask: runs the instruction if they are the last, otherwise they wait.
void arrive_at_collective(Warp& warp, const Instruction& i, u32 pc, u32 lanes, u32 mask) {
  const Program& program = *warp.launch->program;
  check_members(warp, lanes, mask);
  u32 arrived = lanes;
  for (const Group& group : warp.groups)
    if (same_collective(program, group, pc, mask)) arrived |= group.lanes;
  if (arrived != mask) {
    warp.groups.push_back({pc, lanes, Group::at_collective, mask, 0, 0});
    return;
  }
  std::vector<Group> others;
  for (size_t g = 0; g < warp.groups.size();) {
    if (!same_collective(program, warp.groups[g], pc, mask)) {
      ++g;
      continue;
    }
    others.push_back(warp.groups[g]);
    warp.groups.erase(warp.groups.begin() + (s64)g);
  }
  warp.lanes = mask;
  warp.pc = pc;
  i.run(warp, i);
  warp.synchronise(mask);
  add_running(warp, pc + 1, lanes);
  for (const Group& group : others) add_running(warp, group.pc + 1, group.lanes);
}

void run_collective(Warp& warp, const Instruction& i, u32 pc, u32 active) {
  track_registers(warp, i, active);
  while (active) {
    u32 mask = all_lanes, same = active;
    if (i.flag) {
      const u32* masks = warp.slot<u32>(i.source[0]);
      mask = masks[__builtin_ctz(active)];
      same = 0;
      for_each_lane(active, [&](u32 lane) { same |= masks[lane] == mask ? 1u << lane : 0; });
    }
    active &= ~same;
    arrive_at_collective(warp, i, pc, same, mask);
  }
}

// Lanes that go to different places by a register: the targets of brx.idx and the callers of a ret.
template <class F>
void scatter(Warp& warp, u32 lanes, F target) {
  for_each_lane(lanes, [&](u32 lane) { add_running(warp, target(lane), 1u << lane); });
}

// Instructions that change the program counter. The group is not in warp.groups.
void run_control(Block& block, Warp& warp, const Instruction& i, u32 pc, u32 lanes, u32 active) {
  const Program& program = *warp.launch->program;
  warp.lanes = active;
  add_running(warp, pc + 1, lanes & ~active);
  if (!active) return;
  switch (i.flow) {
    case Flow::branch:
      return add_running(warp, i.target, active);
    case Flow::branch_indexed: {
      track_registers(warp, i, active);
      const std::vector<u32>& targets = program.branch_tables[i.immediate];
      const u32* index = warp.slot<u32>(i.source[0]);
      return scatter(warp, active, [&](u32 lane) {
        if (index[lane] >= targets.size())
          throw Violation{error_launch_failed, "brx.idx beyond its targets", 1u << lane};
        return targets[index[lane]];
      });
    }
    case Flow::call: {
      copy_parameters(warp, i);
      u32* return_pc = warp.slot<u32>(i.destination[0]);
      for_each_lane(active, [&](u32 lane) { return_pc[lane] = pc + 1; });
      return add_running(warp, i.target, active);
    }
    case Flow::return_: {
      const u32* return_pc = warp.slot<u32>(i.source[0]);
      return scatter(warp, active, [&](u32 lane) { return return_pc[lane]; });
    }
    case Flow::exit:
      return exit_lanes(warp, active);
    case Flow::barrier:
    case Flow::arrive:
      track_registers(warp, i, active);
      arrive_at_barrier(block, warp, i, pc, active);
      return;
    case Flow::collective:
      return run_collective(warp, i, pc, active);
    case Flow::compute:
      return;
  }
}

// Runs one group until it branches, waits, meets another group or has had its turn. Returns what is left of the turn.
u32 run_group(Block& block, Warp& warp, size_t chosen, u32 turn) {
  const Program& program = *warp.launch->program;
  TrafficCounts& counts = warp.launch->traffic.counts;
  const Group group = warp.groups[chosen];
  warp.groups.erase(warp.groups.begin() + (s64)chosen);
  u32 pc = group.pc, meeting = ~0u;
  for (const Group& other : warp.groups)
    if (other.state == Group::running && other.pc > pc) meeting = std::min(meeting, other.pc);
  const u32 lanes = group.lanes;
  for (;;) {
    const Instruction& i = program.code[pc];
    warp.pc = pc;
    ++counts.instructions;
    if (i.guarded && (lanes & ~warp.written[i.guard.id])) read_of_unwritten_register(lanes & ~warp.written[i.guard.id]);
    const u32 active = guarded_lanes(warp, i, lanes);
    --turn;
    if (i.flow != Flow::compute) {
      // A jump of all lanes needs no new choice of group if there is no other.
      if (i.flow == Flow::branch && warp.groups.empty() && (active == lanes || active == 0)) {
        pc = active ? i.target : pc + 1;
        if (turn) continue;
        add_running(warp, pc, lanes);
        return 0;
      }
      run_control(block, warp, i, pc, lanes, active);
      return turn;
    }
    if (active) {
      track_registers(warp, i, active);
      warp.lanes = active;
      counts.fma += i.fma_operations * __builtin_popcount(active);
      i.run(warp, i);
    }
    ++pc;
    if (pc == meeting || turn == 0) {
      add_running(warp, pc, lanes);
      return turn;
    }
  }
}

// Mostly the group that is furthest behind, so that diverged lanes meet again; now and then any.
size_t choose_group(Warp& warp) {
  std::vector<Group>& groups = warp.groups;
  if (groups.size() == 1) return groups[0].state == Group::running ? 0 : groups.size();
  size_t candidates[warp_size], count = 0;
  for (size_t g = 0; g < groups.size(); ++g)
    if (groups[g].state == Group::running) candidates[count++] = g;
  if (count == 0) return groups.size();
  const u64 random = warp.launch->random();
  if (random % 8 == 0) return candidates[(random >> 8) % count];
  return *std::min_element(candidates, candidates + count,
                           [&](size_t a, size_t b) { return groups[a].pc < groups[b].pc; });
}

bool can_run(const Warp& warp) {
  for (const Group& group : warp.groups)
    if (group.state == Group::running) return true;
  return false;
}

void run_turn(Block& block, Warp& warp) {
  u32 turn = 1u << warp.launch->random() % 9;
  while (turn) {
    const size_t chosen = choose_group(warp);
    if (chosen == warp.groups.size()) return;
    turn = run_group(block, warp, chosen, turn);
  }
}

u32 special_value(const Launch& launch, const Block& block, const std::string& name, u32 thread) {
  const u32 lane = thread % warp_size;
  const Dim3& shape = launch.block_shape;
  const auto component = [&](const Dim3& d) { return name.back() == 'x' ? d.x : name.back() == 'y' ? d.y : d.z; };
  const auto starts = [&](const char* prefix) { return name.compare(0, std::strlen(prefix), prefix) == 0; };
  if (starts("%tid.")) return component({thread % shape.x, thread / shape.x % shape.y, thread / shape.x / shape.y});
  if (starts("%ntid.")) return component(shape);
  if (starts("%ctaid.")) return component(block.index);
  if (starts("%nctaid.")) return component(launch.grid);
  if (name == "%laneid") return lane;
  if (name == "%warpid") return thread / warp_size;
  if (name == "%nwarpid") return (block.threads + warp_size - 1) / warp_size;
  if (name == "%nsmid") return 1;
  if (name == "%lanemask_eq") return 1u << lane;
  if (name == "%lanemask_lt") return (1u << lane) - 1;
  if (name == "%lanemask_le") return (2u << lane) - 1;
  if (name == "%lanemask_gt") return ~((2u << lane) - 1);
  if (name == "%lanemask_ge") return ~((1u << lane) - 1);
  if (name == "%dynamic_smem_size") return launch.dynamic_shared_bytes;
  if (name == "%total_smem_size") return block.shared.bytes;
  if (name == "WARP_SZ") return warp_size;
  return 0;  // %smid, %gridid
}

// Does the special register differ from block to block?
bool of_the_block(const std::string& name) { return name.compare(0, 7, "%ctaid.") == 0; }

struct FreeAligned {
  void operator()(u8* memory) const { std::free(memory); }
};

// A block's warps keep their memory from one block to the next.
class BlockRunner {
 public:
  explicit BlockRunner(Launch& launch) : launch_(launch), program_(*launch.program) {
    block_.threads = (u32)launch.block_shape.count();
    const u32 warps = (block_.threads + warp_size - 1) / warp_size;
    block_.warps = std::vector<Warp>(warps);
    const u64 bytes = ((u64)program_.register_bytes + 127) / 64 * 64;
    registers_.reset(static_cast<u8*>(std::aligned_alloc(64, bytes * warps)));
    std::memset(registers_.get(), 0, bytes * warps);
    written_.resize((u64)program_.register_count * warps);
    block_.shared.bytes = program_.static_shared_bytes + launch.dynamic_shared_bytes;
    for (u32 w = 0; w < warps; ++w) prepare(block_.warps[w], w, registers_.get() + w * bytes);
    block_.shared.data.reset(new u8[block_.shared.bytes + 1]());
    block_.shared.history.resize(block_.shared.bytes);
  }

  void run(const Dim3& index) {
    begin(index);
    std::vector<u32> ready;
    for (;;) {
      ready.clear();
      for (const Warp& warp : block_.warps)
        if (can_run(warp)) ready.push_back(warp.index);
      if (ready.empty()) {
        running_ = nullptr;
        if (!release_barrier(block_)) return;
        continue;
      }
      running_ = &block_.warps[ready[launch_.random() % ready.size()]];
      const s64 before = launch_.traffic.counts.instructions;
      run_turn(block_, *running_);
      executed_[running_->index] += (u64)(launch_.traffic.counts.instructions - before);
      if (executed_[running_->index] > endless)
        throw Violation{error_launch_failed, "the kernel does not end", running_->existing & ~running_->exited};
    }
  }

  const Block& block() const { return block_; }
  Warp* running() const { return running_; }

 private:
  void prepare(Warp& warp, u32 index, u8* registers) {
    warp.registers = registers;
    warp.written = &written_[(u64)program_.register_count * index];
    warp.block = &block_;
    warp.launch = &launch_;
    warp.index = index;
    const u32 threads = std::min(warp_size, block_.threads - index * warp_size);
    warp.existing = threads == warp_size ? all_lanes : (1u << threads) - 1;
    warp.local_memory.reset(new u8[(u64)program_.local_bytes * warp_size + 1]);
    warp.local_written.reset(new u8[(u64)program_.local_bytes * warp_size + 1]);
    warp.call_parameters.reset(new u8[(u64)program_.call_parameter_bytes * warp_size + 1]());
    for (const ConstantSlot& constant : program_.constants) {
      if (constant.slot.bits == 1)
        warp.predicate(constant.slot) = (u32)constant.bits;
      else
        for (u32 lane = 0; lane < warp_size; ++lane) warp.set_value(constant.slot, lane, constant.bits);
    }
    for (const SpecialRegister& special : program_.special_registers) set(warp, special);
  }

  void set(Warp& warp, const SpecialRegister& special) {
    for (u32 lane = 0; lane < warp_size; ++lane)
      warp.set_value(special.slot, lane, special_value(launch_, block_, special.name, warp.thread(lane)));
  }

  void begin(const Dim3& index) {
    block_.index = index;
    block_.first_epoch = ++block_.epoch;
    launch_.first_epochs.push_back(block_.first_epoch);
    std::fill(std::begin(block_.arrived_only), std::end(block_.arrived_only), 0);
    executed_.assign(block_.warps.size(), 0);
    for (Warp& warp : block_.warps) begin(warp);
  }

  void begin(Warp& warp) {
    std::fill(warp.written, warp.written + program_.register_count, 0);
    for (const ConstantSlot& constant : program_.constants) warp.written[constant.slot.id] = all_lanes;
    for (const SpecialRegister& special : program_.special_registers) {
      warp.written[special.slot.id] = all_lanes;
      if (of_the_block(special.name)) set(warp, special);
    }
    std::memset(warp.local_written.get(), 0, (u64)program_.local_bytes * warp_size);
    warp.exited = 0;
    warp.groups.assign(1, {0, warp.existing, Group::running, 0, 0, 0});
    warp.time = 1;
    warp.known_to_all = 0;
    warp.carry = 0;
    std::memset(warp.known, 0, sizeof warp.known);
    for (u32 lane = 0; lane < warp_size; ++lane) {
      warp.pending[lane].clear();
      warp.committed[lane] = 0;
    }
  }

  Launch& launch_;
  const Program& program_;
  Block block_;
  Warp* running_ = nullptr;
  std::unique_ptr<u8[], FreeAligned> registers_;
  std::vector<u32> written_;
  std::vector<u64> executed_;
};

Dim3 position(u64 linear, const Dim3& shape) {
  return {(u32)(linear % shape.x), (u32)(linear / shape.x % shape.y), (u32)(linear / shape.x / shape.y)};
}

std::string text_of(const Dim3& p) {
  return "(" + std::to_string(p.x) + ", " + std::to_string(p.y) + ", " + std::to_string(p.z) + ")";
}

std::string describe(const Launch& launch, const BlockRunner& runner, const Violation& violation) {
  std::string text = "kernel " + launch.program->name + ": " + violation.text;
  const Warp* warp = runner.running();
  if (warp) text += "\n  at " + place(*launch.program, warp->pc);
  if (runner.block().epoch) text += "\n  block " + text_of(runner.block().index);
  if (!warp || !violation.lanes) return text;
  text += ", thread" + std::string(violation.lanes & (violation.lanes - 1) ? "s" : "");
  for_each_lane(violation.lanes,
                [&](u32 lane) { text += " " + text_of(position(warp->thread(lane), launch.block_shape)); });
  return text;
}

}  // namespace

void Warp::synchronise(u32 members) {
  ++time;
  if (members == existing) {
    known_to_all = time;
    return;
  }
  // Each member learns what any of them knows.
  u32 joint[warp_size] = {};
  for_each_lane(members, [&](u32 member) {
    for (u32 lane = 0; lane < warp_size; ++lane) joint[lane] = std::max(joint[lane], known[member][lane]);
  });
  for_each_lane(members, [&](u32 member) { joint[member] = time; });
  for_each_lane(members, [&](u32 member) { std::memcpy(known[member], joint, sizeof joint); });
}

// splitmix64
u64 Launch::random() {
  u64 z = random_state += 0x9E3779B97F4A7C15ull;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
  return z ^ (z >> 31);
}

std::string Launch::block_of_epoch(u32 epoch) const {
  const auto after = std::upper_bound(first_epochs.begin(), first_epochs.end(), epoch);
  return text_of(position(block_order[(size_t)(after - first_epochs.begin()) - 1], grid));
}

int run_launch(Launch& launch, std::string& report) {
  launch.block_order.resize(launch.grid.count());
  std::iota(launch.block_order.begin(), launch.block_order.end(), 0);
  for (size_t n = launch.block_order.size(); n > 1; --n)
    std::swap(launch.block_order[n - 1], launch.block_order[launch.random() % n]);
  BlockRunner runner(launch);
  try {
    for (u32 linear : launch.block_order) runner.run(position(linear, launch.grid));
    launch.traffic.finish();
  } catch (const Violation& violation) {
    report = describe(launch, runner, violation);
    return violation.error;
  }
  try {
    launch.global.check_all_written();
  } catch (const Violation& violation) {
    report = "kernel " + launch.program->name + ": " + violation.text;
    return violation.error;
  }
  return 0;
}

}  // namespace emulator
