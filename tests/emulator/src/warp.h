// The state of the warps, block and launch that a handler works on.
#pragma once

#include <cstring>
#include <memory>
#include <vector>

#include "instruction.h"
#include "memory_spaces.h"
#include "traffic.h"
#include "violation.h"

namespace emulator {

struct Dim3 {
  u32 x = 1, y = 1, z = 1;
  u64 count() const { return (u64)x * y * z; }
};

// What cp.async has read but not yet delivered.
struct PendingCopy {
  u32 shared_address;
  u32 group;  // counted from the lane's first commit_group
  u8 bytes;
  u32 pc;
  u8 data[16];
};

// A set of lanes with one program counter.
struct Group {
  enum State : u8 { running, at_barrier, at_collective };
  u32 pc;
  u32 lanes;
  State state;
  u32 member_mask;  // at_collective
  u32 barrier, barrier_threads;
};

struct Block;
struct Launch;

struct alignas(64) Warp {
  u8* registers = nullptr;
  u32* written = nullptr;  // by register id: the lanes that have written it
  u32 lanes = 0;           // that execute the current instruction
  u32 pc = 0;
  Block* block = nullptr;
  Launch* launch = nullptr;
  u32 index = 0;  // in the block
  u32 existing = 0, exited = 0;
  std::vector<Group> groups;

  // Order between the lanes: a collective at `time` makes what its lanes did before known to each of them.
  // known[a][b] is the time before which lane a knows what lane b did; known_to_all the same for all pairs.
  u32 time = 1;
  u32 known_to_all = 0;
  u32 known[warp_size][warp_size];

  std::vector<PendingCopy> pending[warp_size];
  u32 committed[warp_size];
  u32 carry = 0;  // the condition code register of add.cc and the like, a bit for each lane

  std::unique_ptr<u8[]> local_memory, local_written;  // [lane][local_bytes]
  std::unique_ptr<u8[]> call_parameters;              // [lane][call_parameter_bytes]

  template <class T>
  T* slot(const Slot& slot) {
    return reinterpret_cast<T*>(registers + slot.offset);
  }
  u32& predicate(const Slot& s) { return *slot<u32>(s); }
  // One lane of a register of up to 64 bits.
  u64 value(const Slot& s, u32 lane) { return s.bits == 64 ? slot<u64>(s)[lane] : slot<u32>(s)[lane]; }
  void set_value(const Slot& s, u32 lane, u64 bits) {
    if (s.bits == 64)
      slot<u64>(s)[lane] = bits;
    else
      slot<u32>(s)[lane] = (u32)bits;
  }
  void synchronise(u32 members);
  bool knows(u32 lane, u32 other, u32 when) const { return when < known_to_all || when < known[lane][other]; }
  u32 thread(u32 lane) const { return index * warp_size + lane; }
};

struct Block {
  Dim3 index;
  u32 epoch = 0;  // advances at each barrier, over all blocks of the launch
  u32 first_epoch = 0;
  u32 threads = 0;
  std::vector<Warp> warps;
  SharedMemory shared;
  u32 arrived_only[16];  // threads of bar.arrive
};

struct Launch {
  const Program* program = nullptr;
  Dim3 grid, block_shape;
  u32 dynamic_shared_bytes = 0;
  std::vector<u8> parameters;
  GlobalMemory global;
  Traffic traffic;
  std::vector<u32> first_epochs;  // of the blocks in the order they ran
  std::vector<u32> block_order;
  u64 random_state = 0;

  u64 random();
  std::string block_of_epoch(u32 epoch) const;
};

template <class F>
inline void for_each_lane(u32 lanes, F&& f) {
  for (; lanes; lanes &= lanes - 1) f((u32)__builtin_ctz(lanes));
}

}  // namespace emulator
