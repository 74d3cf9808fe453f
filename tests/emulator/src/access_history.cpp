// Finds races and reads of unwritten bytes from the last accesses to each byte.
#include "access_history.h"

#include <sys/mman.h>

#include <new>
#include <type_traits>
#include <utility>

#include "report.h"
#include "warp.h"

namespace emulator {
namespace {

// Zeroed, and without cost for the parts that are never touched.
Cell* allocate_cells(u64 count) {
  void* memory =
      mmap(nullptr, count * sizeof(Cell), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  return static_cast<Cell*>(memory);
}

void free_cells(Cell* cells, u64 count) {
  if (cells) munmap(cells, count * sizeof(Cell));
}

[[noreturn]] void race(const Warp& warp, u32 lanes, const char* name, u64 offset, Access kind, const char* other_kind,
                       const std::string& other_thread, u32 other_pc) {
  const char* what = kind == Access::read ? "read" : kind == Access::write ? "written" : "changed atomically";
  throw Violation{error_launch_failed,
                  std::string("race: ") + name + "[" + std::to_string(offset) + "] is " + what + " here and was " +
                      other_kind + " by " + other_thread + " at " + place(*warp.launch->program, other_pc) +
                      " with no synchronisation between",
                  lanes};
}

[[noreturn]] void unwritten(const char* name, u64 offset, u32 lanes) {
  throw Violation{error_launch_failed,
                  std::string("read of ") + name + "[" + std::to_string(offset) + "], which was never written", lanes};
}

[[noreturn]] void not_waited_for(const Warp& warp, const char* name, u64 offset, u32 lanes, const Cell& cell) {
  throw Violation{error_launch_failed,
                  std::string("cp.async not waited for: ") + name + "[" + std::to_string(offset) +
                      "] is the destination of the copy issued by thread " + std::to_string(cell.write_thread) +
                      " at " + place(*warp.launch->program, cell.write_pc),
                  lanes};
}

std::string thread_text(const Warp& warp, u32 thread, u32 epoch) {
  std::string text = "thread " + std::to_string(thread);
  if (epoch < warp.block->first_epoch) text += " of block " + warp.launch->block_of_epoch(epoch);
  return text;
}

// Lanes of `lanes` that do not know of what `other` did at `when`.
u32 ignorant(const Warp& warp, u32 lanes, u32 other, u32 when) {
  if (when < warp.known_to_all) return 0;
  u32 result = 0;
  for_each_lane(lanes & ~(1u << other), [&](u32 lane) {
    if (!warp.knows(lane, other, when)) result |= 1u << lane;
  });
  return result;
}

// Is the last write of a cell unordered with what `lanes` do now?
u32 lanes_racing_with_write(const Warp& warp, u32 lanes, const Cell& cell) {
  if (cell.write_epoch < warp.block->first_epoch) return lanes;  // an earlier block
  if (cell.write_epoch != warp.block->epoch) return 0;
  if (cell.write_thread / warp_size != warp.index) return lanes;
  return ignorant(warp, lanes, cell.write_thread % warp_size, cell.write_time);
}

bool lane_races_with_reads(const Warp& warp, u32 lane, const Cell& cell, u32& reader) {
  reader = cell.read_warp == AccessHistory::several_warps ? 0 : cell.read_warp * warp_size;
  if (cell.read_epoch < warp.block->first_epoch) return true;
  if (cell.read_epoch != warp.block->epoch) return false;
  if (cell.read_warp != warp.index) {
    reader += cell.read_lanes ? __builtin_ctz(cell.read_lanes) : 0;
    return true;
  }
  if (cell.read_time < warp.known_to_all) return false;
  bool races = false;
  for_each_lane(cell.read_lanes & ~(1u << lane), [&](u32 other) {
    if (!races && !warp.knows(lane, other, cell.read_time)) {
      races = true;
      reader = warp.thread(other);
    }
  });
  return races;
}

void note_read(const Warp& warp, u32 lanes, Cell& cell, bool shared) {
  const u32 epoch = warp.block->epoch;
  // An earlier block's read of global memory stays unordered with every write to come: keep it.
  if (!shared && cell.read_epoch && cell.read_epoch < warp.block->first_epoch) return;
  if (cell.read_epoch != epoch) {
    cell.read_epoch = epoch;
    cell.read_warp = (u16)warp.index;
    cell.read_lanes = lanes;
  } else if (cell.read_warp != warp.index) {
    cell.read_warp = AccessHistory::several_warps;
    cell.read_lanes = lanes;
  } else if (cell.read_time < warp.known_to_all) {
    cell.read_lanes = lanes;
  } else {
    cell.read_lanes |= lanes;
  }
  cell.read_time = warp.time;
  cell.read_pc = warp.pc;
}

void note_write(const Warp& warp, u32 lane, Cell& cell, u8 flags) {
  cell.write_epoch = warp.block->epoch;
  cell.write_time = warp.time;
  cell.write_pc = warp.pc;
  cell.write_thread = (u16)warp.thread(lane);
  cell.flags = (cell.flags & AccessHistory::split) | flags;
  cell.read_epoch = 0;
}

}  // namespace

AccessHistory::~AccessHistory() { resize(0); }

AccessHistory& AccessHistory::operator=(AccessHistory&& other) noexcept {
  std::swap(words_, other.words_);
  std::swap(single_bytes_, other.single_bytes_);
  std::swap(bytes_, other.bytes_);
  return *this;
}

void AccessHistory::resize(u64 bytes) {
  free_cells(words_, bytes_ / 4);
  free_cells(single_bytes_, bytes_);
  words_ = single_bytes_ = nullptr;
  bytes_ = (bytes + 3) / 4 * 4;
  if (bytes_) words_ = allocate_cells(bytes_ / 4);
}

template <class F>
inline void AccessHistory::visit(u64 offset, u32 bytes, F&& f) {
  const u64 end = offset + bytes;
  if ((offset | bytes) % 4 == 0) {
    for (u64 word = offset / 4; word * 4 < end; ++word) {
      Cell& cell = words_[word];
      if (!(cell.flags & split)) {
        f(cell, word * 4);
        continue;
      }
      for (u64 byte = word * 4; byte < word * 4 + 4; ++byte) f(single_bytes_[byte], byte);
    }
    return;
  }
  for (u64 word = offset / 4; word * 4 < end; ++word) {
    Cell& cell = words_[word];
    const u64 first = word * 4 > offset ? word * 4 : offset, last = word * 4 + 4 < end ? word * 4 + 4 : end;
    if (!(cell.flags & split)) {
      if (last - first == 4) {
        f(cell, first);
        continue;
      }
      if (!single_bytes_) single_bytes_ = allocate_cells(bytes_);
      for (int i = 0; i < 4; ++i) single_bytes_[word * 4 + i] = cell;
      cell.flags |= split;
    }
    for (u64 byte = first; byte < last; ++byte) f(single_bytes_[byte], byte);
  }
}

// The kinds are compiled one by one: most of an emulation's time is spent here.
void AccessHistory::access(Warp& warp, u32 lanes, u64 offset, u32 bytes, Access kind, bool shared, const char* name) {
  const auto as = [&](auto in_shared) {
    constexpr bool of_block = decltype(in_shared)::value;
    switch (kind) {
      case Access::read:
        return access_as<Access::read, of_block>(warp, lanes, offset, bytes, name);
      case Access::write:
        return access_as<Access::write, of_block>(warp, lanes, offset, bytes, name);
      case Access::atomic:
        return access_as<Access::atomic, of_block>(warp, lanes, offset, bytes, name);
    }
  };
  shared ? as(std::true_type{}) : as(std::false_type{});
}

template <Access kind, bool shared>
void AccessHistory::access_as(Warp& warp, u32 lanes, u64 offset, u32 bytes, const char* name) {
  const u32 first_epoch = warp.block->first_epoch;
  visit(offset, bytes, [&](Cell& cell, u64 at) __attribute__((always_inline)) {
    bool written = cell.write_epoch != 0, read = cell.read_epoch != 0;
    if (shared) {
      written = cell.write_epoch >= first_epoch;
      read = cell.read_epoch >= first_epoch;
      if (!written) {
        if (kind != Access::write) unwritten(name, at, lanes);
      } else if (__builtin_expect(cell.flags & pending, 0)) {
        not_waited_for(warp, name, at, lanes, cell);
      }
    }
    const bool both_atomic = kind == Access::atomic && (cell.flags & atomic);
    if (written && !both_atomic) {
      const u32 racing = lanes_racing_with_write(warp, lanes, cell);
      if (__builtin_expect(racing, 0))
        race(warp, racing, name, at, kind, "written", thread_text(warp, cell.write_thread, cell.write_epoch),
             cell.write_pc);
    }
    if (kind == Access::read) {
      note_read(warp, lanes, cell, shared);
      return;
    }
    const u32 lane = (u32)__builtin_ctz(lanes);
    u32 reader;
    if (read && lane_races_with_reads(warp, lane, cell, reader))
      race(warp, 1u << lane, name, at, kind, "read", thread_text(warp, reader, cell.read_epoch), cell.read_pc);
    note_write(warp, lane, cell, kind == Access::atomic ? atomic : 0);
  });
}

void AccessHistory::begin_copy(Warp& warp, u32 lane, u64 offset, u32 bytes) {
  access(warp, 1u << lane, offset, bytes, Access::write, true, "shared");
  visit(offset, bytes, [&](Cell& cell, u64) { cell.flags |= pending; });
}

void AccessHistory::end_copy(Warp& warp, u32 lane, u64 offset, u32 bytes, u32 pc) {
  visit(offset, bytes, [&](Cell& cell, u64) {
    note_write(warp, lane, cell, 0);
    cell.write_pc = pc;
  });
}

}  // namespace emulator
