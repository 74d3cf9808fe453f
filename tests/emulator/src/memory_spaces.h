// Shared, global, local and parameter memory: where a lane's address lies, and whether it may go there.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "access_history.h"
#include "instruction.h"

namespace emulator {

struct Warp;

// Generic addresses of shared, local and parameter memory begin here; no address of this process is that high.
constexpr u64 shared_window = 1ull << 56, local_window = 2ull << 56, parameter_window = 3ull << 56;
constexpr u64 window_mask = ~((1ull << 56) - 1);

struct SharedMemory {
  u32 bytes = 0;
  std::unique_ptr<u8[]> data;
  AccessHistory history;
};

// What the caller of the launch declared about one region of global memory.
struct Buffer {
  enum Rights : int { read_only = 0, write_only = 1, read_write = 2, scratch = 3 };
  std::string name;
  u64 address = 0;
  u64 rows = 0, row_bytes = 0, row_stride = 0;
  Rights rights = read_only;
  std::vector<u8> written;  // by byte from `address` on, only where the contents are undefined at first
  AccessHistory history;

  u64 span() const { return rows ? (rows - 1) * row_stride + row_bytes : 0; }
  bool contains(u64 at, u64 bytes) const;
  bool contents_undefined() const { return rights == write_only || rights == scratch; }
};

struct GlobalMemory {
  bool checked = false;  // without declared buffers anything goes
  std::vector<Buffer> buffers;
  size_t last_hit = 0;
  // Module variables: always there, not checked for races.
  std::vector<std::pair<u64, u64>> variables;  // address, bytes

  void prepare();  // sets up the shadow of the buffers
  Buffer* find(u64 at, u64 bytes);
  bool in_variable(u64 at, u64 bytes) const;
  std::string describe(u64 at) const;
  void check_all_written() const;  // throws a Violation
};

// The host memory of an access of `bytes` by each active lane, once it has been checked and noted.
struct HostPointers {
  u8* lane[warp_size];
};
void resolve(Warp& warp, Space space, const u64* addresses, u32 bytes, Access kind, HostPointers& pointers);

// The lanes' addresses of operand [source + offset].
struct Addresses {
  alignas(64) u64 lane[warp_size];
};
void compute_addresses(Warp& warp, const Slot& base, s64 offset, Space space, Addresses& addresses);

}  // namespace emulator
