// Who touched each byte of a memory last: finds unordered accesses of two threads (races) and reads of bytes that were
// never written.
#pragma once

#include "instruction.h"

namespace emulator {

struct Warp;

enum class Access : u8 { read, write, atomic };

// The history of four bytes, or of one byte once the four were accessed in parts. Epochs count the block barriers of
// the launch over all its blocks, which run one after another, so that an epoch also tells the block; 0 is never.
// Only the last write and the last unordered reads need to be kept: whatever is ordered after the last access is
// ordered after those before it too, or a race was reported then (the argument of FastTrack, Flanagan and Freund 2009).
struct Cell {
  u32 write_epoch, write_time, write_pc;
  u32 read_epoch, read_time, read_pc, read_lanes;
  u16 write_thread;
  u16 read_warp;  // or several_warps
  u8 flags;
};

class AccessHistory {
 public:
  static constexpr u8 split = 1, atomic = 2, pending = 4;
  static constexpr u16 several_warps = 0xffff;

  AccessHistory() = default;
  ~AccessHistory();
  AccessHistory(const AccessHistory&) = delete;
  AccessHistory& operator=(const AccessHistory&) = delete;
  AccessHistory(AccessHistory&& other) noexcept { *this = static_cast<AccessHistory&&>(other); }
  AccessHistory& operator=(AccessHistory&& other) noexcept;

  void resize(u64 bytes);
  bool empty() const { return bytes_ == 0; }

  // Checks an access by `lanes` of a warp, which all touch the same bytes, and notes it. `shared` memory begins anew
  // with each block: what earlier blocks did there is forgotten, and a byte not written in this block may not be
  // read. Throws a Violation; `name` tells the memory in its text.
  void access(Warp& warp, u32 lanes, u64 offset, u32 bytes, Access kind, bool shared, const char* name);

  // cp.async: between its issue and its wait nobody may touch the destination.
  void begin_copy(Warp& warp, u32 lane, u64 offset, u32 bytes);
  void end_copy(Warp& warp, u32 lane, u64 offset, u32 bytes, u32 pc);

 private:
  template <class F>
  void visit(u64 offset, u32 bytes, F&& f);
  template <Access kind, bool shared>
  void access_as(Warp& warp, u32 lanes, u64 offset, u32 bytes, const char* name);

  Cell* words_ = nullptr;
  Cell* single_bytes_ = nullptr;
  u64 bytes_ = 0;
};

}  // namespace emulator
