// Counts bytes, bank conflicts and operations of a launch.
#include "traffic.h"

namespace emulator {

void Traffic::note(Pages& pages, u64 sector_index) {
  pages[sector_index / sectors_per_page].set(sector_index % sectors_per_page);
}

void Traffic::global_access(const u64* addresses, u32 lanes, u32 bytes, Access kind) {
  if (!counts_memory) return;
  u64 seen[2 * warp_size];
  u32 count = 0;
  for (u32 rest = lanes; rest; rest &= rest - 1) {
    const u64 address = addresses[__builtin_ctz(rest)];
    for (u64 index = address / sector; index <= (address + bytes - 1) / sector; ++index) {
      u32 i = count;
      while (i > 0 && seen[i - 1] != index) --i;
      if (i == 0) seen[count++] = index;
    }
  }
  if (kind != Access::write) counts.read_bytes += count * sector;
  if (kind != Access::read) counts.written_bytes += count * sector;
  for (u32 i = 0; i < count; ++i) {
    if (kind != Access::write) note(read_, seen[i]);
    if (kind != Access::read) note(written_, seen[i]);
  }
}

void Traffic::shared_access(const u64* addresses, u32 lanes, u32 bytes) {
  if (!counts_memory) return;
  constexpr u32 banks = 32;
  ++counts.shared_accesses;
  const u32 words = bytes > 4 ? bytes / 4 : 1, lanes_per_phase = warp_size / words;
  for (u32 first = 0; first < warp_size; first += lanes_per_phase) {
    u64 held[banks][warp_size];
    u8 depth[banks] = {};
    u8 wavefronts = 0;
    for (u32 lane = first; lane < first + lanes_per_phase; ++lane) {
      if (!(lanes >> lane & 1)) continue;
      for (u32 w = 0; w < words; ++w) {
        const u64 word = addresses[lane] / 4 + w;
        const u32 bank = word % banks;
        u32 i = 0;
        while (i < depth[bank] && held[bank][i] != word) ++i;
        if (i < depth[bank]) continue;
        held[bank][depth[bank]++] = word;
        if (depth[bank] > wavefronts) wavefronts = depth[bank];
      }
    }
    if (wavefronts > 1) counts.shared_bank_conflicts += wavefronts - 1;
  }
}

void Traffic::finish() {
  for (const auto& page : read_) counts.read_bytes_distinct += (s64)(page.second.count() * sector);
  for (const auto& page : written_) counts.written_bytes_distinct += (s64)(page.second.count() * sector);
}

}  // namespace emulator
