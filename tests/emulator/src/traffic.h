// Counts what a launch moves and computes.
#pragma once

#include <bitset>
#include <unordered_map>

#include "access_history.h"
#include "instruction.h"

namespace emulator {

struct TrafficCounts {
  s64 read_bytes = 0, written_bytes = 0;
  s64 read_bytes_distinct = 0, written_bytes_distinct = 0;
  s64 shared_bank_conflicts = 0, shared_accesses = 0;
  s64 instructions = 0;
  s64 fma = 0, mma_products = 0;
};

class Traffic {
 public:
  TrafficCounts counts;
  bool counts_memory = false;  // bytes and bank conflicts; the rest is always counted

  // Global memory moves in sectors of 32 bytes: a warp's access counts each sector that it touches once.
  void global_access(const u64* addresses, u32 lanes, u32 bytes, Access kind);
  // Shared memory has 32 banks of 4 bytes. Accesses of 8 and 16 bytes go in 2 and 4 phases of 16 and 8 lanes. The
  // wavefronts of a phase are the most distinct words that one bank has to deliver; all but one are conflicts.
  void shared_access(const u64* addresses, u32 lanes, u32 bytes);
  void finish();

 private:
  static constexpr u64 sector = 32, sectors_per_page = 128;
  using Pages = std::unordered_map<u64, std::bitset<sectors_per_page>>;
  void note(Pages& pages, u64 sector_index);
  Pages read_, written_;
};

}  // namespace emulator
