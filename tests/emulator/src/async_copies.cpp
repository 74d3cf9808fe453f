// cp.async: the copy is read at its issue and delivered by the wait of the thread that issued it, the latest that the
// hardware may take. Between the two the destination counts as being written.
#include "lanes.h"

namespace emulator {
namespace {

// source[0]: destination address, source[1]: source address, source[2]: bytes to read if `flag`; the rest is zero.
// `immediate` is the offset of the shared address, `offset` that of the global one.
void issue(Warp& warp, const Instruction& i) {
  Addresses to, from;
  HostPointers data;
  compute_addresses(warp, i.source[0], (s32)i.immediate, Space::shared, to);
  compute_addresses(warp, i.source[1], i.offset, Space::global, from);
  const u32 lanes = warp.lanes;
  SharedMemory& shared = warp.block->shared;
  for_each_lane(lanes, [&](u32 lane) {
    const u64 size = i.flag ? warp.value(i.source[2], lane) : i.bytes;
    if (size > i.bytes)
      throw Violation{error_launch_failed,
                      "cp.async reads " + std::to_string(size) + " of " + std::to_string(i.bytes) + " bytes",
                      1u << lane};
    if (to.lane[lane] % i.bytes || from.lane[lane] % i.bytes)
      throw Violation{error_misaligned_address, "misaligned cp.async of " + std::to_string(i.bytes) + " bytes",
                      1u << lane};
    if (to.lane[lane] + i.bytes > shared.bytes)
      throw Violation{error_illegal_address,
                      "cp.async to shared[" + std::to_string(to.lane[lane]) + "] is out of range of the block's " +
                          std::to_string(shared.bytes) + " bytes",
                      1u << lane};
    PendingCopy copy{(u32)to.lane[lane], warp.committed[lane], i.bytes, warp.pc, {}};
    // A partial source may end anywhere, so it is checked by the byte.
    warp.lanes = 1u << lane;
    const u32 step = size == i.bytes ? i.bytes : 1;
    for (u32 byte = 0; byte < size; byte += step) {
      u64 address[warp_size];
      address[lane] = from.lane[lane] + byte;
      resolve(warp, Space::global, address, step, Access::read, data);
      std::memcpy(copy.data + byte, data.lane[lane], step);
    }
    shared.history.begin_copy(warp, lane, copy.shared_address, copy.bytes);
    warp.pending[lane].push_back(copy);
  });
  warp.lanes = lanes;
}

void deliver(Warp& warp, u32 lane, u32 groups_allowed_pending, bool all) {
  std::vector<PendingCopy>& pending = warp.pending[lane];
  size_t kept = 0;
  for (const PendingCopy& copy : pending) {
    // Group g is complete when at most groups_allowed_pending committed ones follow it.
    if (!all && copy.group + groups_allowed_pending >= warp.committed[lane]) {
      pending[kept++] = copy;
      continue;
    }
    SharedMemory& shared = warp.block->shared;
    std::memcpy(shared.data.get() + copy.shared_address, copy.data, copy.bytes);
    shared.history.end_copy(warp, lane, copy.shared_address, copy.bytes, copy.pc);
  }
  pending.resize(kept);
}

void commit(Warp& warp, const Instruction&) {
  for_each_lane(warp.lanes, [&](u32 lane) { ++warp.committed[lane]; });
}

void wait_group(Warp& warp, const Instruction& i) {
  for_each_lane(warp.lanes, [&](u32 lane) { deliver(warp, lane, i.immediate, false); });
}

void wait_all(Warp& warp, const Instruction&) {
  for_each_lane(warp.lanes, [&](u32 lane) {
    ++warp.committed[lane];
    deliver(warp, lane, 0, true);
  });
}

void decode_issue(Decoding& d) {
  Instruction& i = d.instruction;
  if (!d.take("ca") && !d.take("cg")) d.unsupported("form");
  if (d.take_space() != Space::shared || d.take_space() != Space::global) d.unsupported("space");
  for (const char* hint : {"L2::64B", "L2::128B", "L2::256B"}) d.take(hint);
  const bool with_policy = d.take("L2::cache_hint");
  i.bytes = (u8)d.number(2);
  d.address(0);
  i.immediate = (u32)i.offset;
  d.address(1);
  const size_t count = d.operand_count() - with_policy;
  if (count == 4) {
    i.flag = true;
    d.source(3, 32);
  } else if (count != 3) {
    d.unsupported("number of operands");
  }
  i.run = issue;
}

void decode_copy(Decoding& d) {
  if (!d.take("async")) d.unsupported("form");
  if (d.take("commit_group")) {
    d.instruction.run = commit;
  } else if (d.take("wait_group")) {
    d.instruction.immediate = (u32)d.number(0);
    d.instruction.run = wait_group;
  } else if (d.take("wait_all")) {
    d.instruction.run = wait_all;
  } else {
    decode_issue(d);
  }
}

}  // namespace

void add_async_copies(OpcodeTable& table) { table["cp"] = decode_copy; }

}  // namespace emulator
