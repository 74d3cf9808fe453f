// Checks the address of an access, and translates it to memory of this process.
#include "memory_spaces.h"

#include <algorithm>
#include <cstdio>

#include "report.h"
#include "warp.h"

namespace emulator {
namespace {

const char* verb(Access kind) { return kind == Access::read ? "read" : kind == Access::write ? "write" : "atomic"; }

std::string hexadecimal(u64 value) {
  char text[32];
  std::snprintf(text, sizeof text, "0x%llx", (unsigned long long)value);
  return text;
}

[[noreturn]] void illegal(Access kind, u32 bytes, const std::string& where, u32 lane) {
  throw Violation{error_illegal_address,
                  std::string("illegal ") + verb(kind) + " of " + std::to_string(bytes) + " bytes: " + where,
                  1u << lane};
}

// The lowest and the highest address of the lanes.
struct Extent {
  u64 first = ~u64{0}, last = 0;
};

Extent extent_of(const u64* addresses, u32 lanes) {
  Extent extent;
  for (u32 lane = 0; lane < warp_size; ++lane) {
    const bool active = lanes >> lane & 1;
    extent.first = std::min(extent.first, active ? addresses[lane] : ~u64{0});
    extent.last = std::max(extent.last, active ? addresses[lane] : u64{0});
  }
  return extent;
}

void check_alignment(const u64* addresses, u32 lanes, u32 bytes, Access kind, const char* space) {
  u64 low = 0;
  for (u32 lane = 0; lane < warp_size; ++lane) low |= lanes >> lane & 1 ? addresses[lane] : 0;
  if (!(low & (bytes - 1))) return;
  for_each_lane(lanes, [&](u32 lane) {
    if (addresses[lane] & (bytes - 1))
      throw Violation{error_misaligned_address,
                      std::string("misaligned ") + verb(kind) + " of " + std::to_string(bytes) + " bytes at " + space +
                          " address " + hexadecimal(addresses[lane]),
                      1u << lane};
  });
}

// Lanes that read the same bytes count as one access of them all: the usual broadcast then costs little.
class EqualAddresses {
 public:
  EqualAddresses(const u64* addresses, u32 lanes) {
    for_each_lane(lanes, [&](u32 lane) {
      u32 entry = (u32)(addresses[lane] / 4 * 0x9E3779B1u >> 26) % table_size;
      while (lanes_[entry] && key_[entry] != addresses[lane]) entry = (entry + 1) % table_size;
      if (!lanes_[entry]) order_[count_++] = entry;
      key_[entry] = addresses[lane];
      lanes_[entry] |= 1u << lane;
    });
  }
  template <class F>
  void for_each(F&& f) const {
    for (u32 i = 0; i < count_; ++i) f(key_[order_[i]], lanes_[order_[i]]);
  }

 private:
  static constexpr u32 table_size = 64;
  u64 key_[table_size];
  u32 lanes_[table_size] = {};
  u32 order_[warp_size];
  u32 count_ = 0;
};

// Is each lane's address above that of the lane before?
bool ascend(const u64* addresses, u32 lanes) {
  bool result = true;
  u64 least = 0;
  for_each_lane(lanes, [&](u32 lane) {
    result &= addresses[lane] >= least;
    least = addresses[lane] + 1;
  });
  return result;
}

// f(address, lanes) for each address; in the order of their first lanes.
template <class F>
void for_each_address(const u64* addresses, u32 lanes, const Extent& extent, F&& f) {
  if (extent.first == extent.last)
    f(extent.first, lanes);
  else if (ascend(addresses, lanes))
    for_each_lane(lanes, [&](u32 lane) { f(addresses[lane], 1u << lane); });
  else
    EqualAddresses(addresses, lanes).for_each(f);
}

void resolve_shared(Warp& warp, const u64* addresses, u32 bytes, Access kind, HostPointers& pointers) {
  SharedMemory& shared = warp.block->shared;
  check_alignment(addresses, warp.lanes, bytes, kind, "shared");
  const Extent extent = extent_of(addresses, warp.lanes);
  if (extent.last > shared.bytes || extent.last + bytes > shared.bytes) {
    for_each_lane(warp.lanes, [&](u32 lane) {
      if (addresses[lane] + bytes > shared.bytes || addresses[lane] > shared.bytes)
        illegal(kind, bytes,
                "shared[" + std::to_string((s64)addresses[lane]) + "] is out of range of the block's " +
                    std::to_string(shared.bytes) + " bytes",
                lane);
    });
  }
  for (u32 lane = 0; lane < warp_size; ++lane) pointers.lane[lane] = shared.data.get() + addresses[lane];
  warp.launch->traffic.shared_access(addresses, warp.lanes, bytes);
  if (kind == Access::read) {
    for_each_address(addresses, warp.lanes, extent, [&](u64 address, u32 lanes) {
      shared.history.access(warp, lanes, address, bytes, kind, true, "shared");
    });
  } else {
    for_each_lane(warp.lanes, [&](u32 lane) {
      shared.history.access(warp, 1u << lane, addresses[lane], bytes, kind, true, "shared");
    });
  }
}

void check_buffer_access(Warp& warp, Buffer& buffer, u32 lanes, u64 address, u32 bytes, Access kind) {
  const u64 offset = address - buffer.address;
  const u32 lane = (u32)__builtin_ctz(lanes);
  if (kind != Access::read && buffer.rights == Buffer::read_only)
    illegal(kind, bytes, warp.launch->global.describe(address) + " is read-only", lane);
  if (buffer.contents_undefined()) {
    if (kind != Access::write) {
      for (u32 i = 0; i < bytes; ++i)
        if (!buffer.written[offset + i])
          throw Violation{
              error_launch_failed,
              "read of " + warp.launch->global.describe(address + i) + ", which was never written in this launch",
              lanes};
    }
    if (kind != Access::read) std::memset(&buffer.written[offset], 1, bytes);
  }
  // The history's cells are aligned as the addresses are, so that an aligned word is one cell.
  if (!buffer.history.empty())
    buffer.history.access(warp, lanes, offset + (buffer.address & 3), bytes, kind, false, buffer.name.c_str());
}

// Does every lane read what nobody writes in this launch? Then there is nothing to note.
bool reads_constants(GlobalMemory& global, const u64* addresses, u32 lanes, u32 bytes, const Extent& extent) {
  if (const Buffer* buffer = global.find(extent.first, extent.last - extent.first + bytes))
    return buffer->rights == Buffer::read_only;
  const Buffer* buffer = global.find(extent.first, bytes);
  if (!buffer || buffer->rights != Buffer::read_only) return false;
  bool inside = true;
  for_each_lane(lanes, [&](u32 lane) { inside = inside && buffer->contains(addresses[lane], bytes); });
  return inside;
}

void resolve_global(Warp& warp, const u64* addresses, u32 bytes, Access kind, HostPointers& pointers) {
  GlobalMemory& global = warp.launch->global;
  check_alignment(addresses, warp.lanes, bytes, kind, "global");
  warp.launch->traffic.global_access(addresses, warp.lanes, bytes, kind);
  for (u32 lane = 0; lane < warp_size; ++lane) pointers.lane[lane] = reinterpret_cast<u8*>(addresses[lane]);
  const Extent extent = extent_of(addresses, warp.lanes);
  if (extent.first >= 0x10000 && kind == Access::read && global.checked &&
      reads_constants(global, addresses, warp.lanes, bytes, extent))
    return;
  const auto one = [&](u64 address, u32 lanes) {
    const u32 lane = (u32)__builtin_ctz(lanes);
    if (address < 0x10000) illegal(kind, bytes, "null pointer " + hexadecimal(address), lane);
    if (!global.checked) return;
    if (Buffer* buffer = global.find(address, bytes))
      check_buffer_access(warp, *buffer, lanes, address, bytes, kind);
    else if (!global.in_variable(address, bytes))
      illegal(kind, bytes, global.describe(address), lane);
  };
  if (kind == Access::read)
    for_each_address(addresses, warp.lanes, extent, one);
  else
    for_each_lane(warp.lanes, [&](u32 lane) { one(addresses[lane], 1u << lane); });
}

void resolve_local(Warp& warp, const u64* addresses, u32 bytes, Access kind, HostPointers& pointers) {
  const u64 size = warp.launch->program->local_bytes;
  check_alignment(addresses, warp.lanes, bytes, kind, "local");
  for_each_lane(warp.lanes, [&](u32 lane) {
    const u64 at = addresses[lane];
    if (at > size || at + bytes > size)
      illegal(
          kind, bytes,
          "local[" + std::to_string((s64)at) + "] is out of range of the thread's " + std::to_string(size) + " bytes",
          lane);
    u8* written = warp.local_written.get() + lane * size + at;
    if (kind == Access::write)
      std::memset(written, 1, bytes);
    else if (std::memchr(written, 0, bytes))
      throw Violation{error_launch_failed, "read of local[" + std::to_string(at) + "], which was never written",
                      1u << lane};
    pointers.lane[lane] = warp.local_memory.get() + lane * size + at;
  });
}

void resolve_parameter(Warp& warp, const u64* addresses, u32 bytes, Access kind, HostPointers& pointers) {
  const Program& program = *warp.launch->program;
  check_alignment(addresses, warp.lanes, bytes, kind, "parameter");
  for_each_lane(warp.lanes, [&](u32 lane) {
    const u64 at = addresses[lane], end = program.parameter_bytes + program.call_parameter_bytes;
    if (at > end || at + bytes > end)
      illegal(kind, bytes, "parameter[" + std::to_string((s64)at) + "] is out of range", lane);
    if (at >= program.parameter_bytes) {
      pointers.lane[lane] =
          warp.call_parameters.get() + lane * program.call_parameter_bytes + (at - program.parameter_bytes);
    } else {
      if (kind != Access::read) illegal(kind, bytes, "a kernel's parameters are read-only", lane);
      pointers.lane[lane] = warp.launch->parameters.data() + at;
    }
  });
}

// Lanes may point into different spaces; each is resolved for its lanes alone.
void resolve_generic(Warp& warp, const u64* addresses, u32 bytes, Access kind, HostPointers& pointers) {
  const u32 all = warp.lanes;
  Addresses inside;
  for (const auto& [window, space] : {std::pair{shared_window, Space::shared}, std::pair{local_window, Space::local},
                                      std::pair{parameter_window, Space::param}, std::pair{(u64)0, Space::global}}) {
    u32 lanes = 0;
    for_each_lane(all, [&](u32 lane) {
      if ((addresses[lane] & window_mask) != window) return;
      lanes |= 1u << lane;
      inside.lane[lane] = addresses[lane] - window;
    });
    if (!lanes) continue;
    warp.lanes = lanes;
    resolve(warp, space, inside.lane, bytes, kind, pointers);
  }
  warp.lanes = all;
  for_each_lane(all, [&](u32 lane) {
    if (addresses[lane] >> 58) illegal(kind, bytes, "address " + hexadecimal(addresses[lane]) + " lies nowhere", lane);
  });
}

}  // namespace

bool Buffer::contains(u64 at, u64 bytes) const {
  const u64 offset = at - address;
  if (at < address || offset >= span()) return false;
  // A buffer of one row is the usual one, and a division takes its time.
  const u64 in_row = rows == 1 ? offset : offset % row_stride;
  return bytes <= row_bytes && in_row <= row_bytes - bytes;
}

void GlobalMemory::prepare() {
  for (Buffer& buffer : buffers) {
    if (buffer.rows <= 1 || buffer.row_stride == buffer.row_bytes) {  // dense: one long row
      buffer.row_bytes *= buffer.rows;
      buffer.rows = buffer.row_bytes ? 1 : 0;
      buffer.row_stride = buffer.row_bytes ? buffer.row_bytes : 1;
    }
    if (buffer.contents_undefined()) buffer.written.assign(buffer.span(), 0);
    if (buffer.rights != Buffer::read_only && buffer.span()) buffer.history.resize(buffer.span() + 8);
  }
}

Buffer* GlobalMemory::find(u64 at, u64 bytes) {
  if (last_hit < buffers.size() && buffers[last_hit].contains(at, bytes)) return &buffers[last_hit];
  for (size_t i = 0; i < buffers.size(); ++i) {
    if (!buffers[i].contains(at, bytes)) continue;
    last_hit = i;
    return &buffers[i];
  }
  return nullptr;
}

bool GlobalMemory::in_variable(u64 at, u64 bytes) const {
  for (const auto& [address, size] : variables)
    if (at >= address && at + bytes <= address + size) return true;
  return false;
}

std::string GlobalMemory::describe(u64 at) const {
  const Buffer* nearest = nullptr;
  u64 nearest_distance = 1 << 20;  // beyond, the buffer has nothing to do with it
  for (const Buffer& buffer : buffers) {
    const u64 end = buffer.address + buffer.span();
    if (buffer.contains(at, 1)) {
      const u64 offset = at - buffer.address;
      return buffer.name + "[row " + std::to_string(offset / buffer.row_stride) + ", byte " +
             std::to_string(offset % buffer.row_stride) + "]";
    }
    const u64 distance = at < buffer.address ? buffer.address - at : at < end ? 0 : at - end + 1;
    if (distance < nearest_distance) {
      nearest = &buffer;
      nearest_distance = distance;
    }
  }
  if (!nearest) return "address " + hexadecimal(at) + " is outside all buffers";
  if (at < nearest->address)
    return std::to_string(nearest->address - at) + " bytes before the start of " + nearest->name;
  const u64 offset = at - nearest->address;
  if (offset >= nearest->span())
    return std::to_string(offset - nearest->span()) + " bytes behind the end of " + nearest->name;
  return "in the gap behind row " + std::to_string(offset / nearest->row_stride) + " of " + nearest->name + " (byte " +
         std::to_string(offset % nearest->row_stride) + " of a row of " + std::to_string(nearest->row_bytes) + ")";
}

void GlobalMemory::check_all_written() const {
  for (const Buffer& buffer : buffers) {
    if (buffer.rights != Buffer::write_only) continue;
    for (u64 row = 0; row < buffer.rows; ++row) {
      const u8* first = &buffer.written[row * buffer.row_stride];
      if (const void* missing = std::memchr(first, 0, buffer.row_bytes)) {
        const u64 offset = static_cast<const u8*>(missing) - buffer.written.data();
        throw Violation{error_launch_failed, "not written: " + describe(buffer.address + offset), 0};
      }
    }
  }
}

void compute_addresses(Warp& warp, const Slot& base, s64 offset, Space space, Addresses& addresses) {
  if (base.bits == 64) {
    const u64* values = warp.slot<u64>(base);
    for (u32 lane = 0; lane < warp_size; ++lane) addresses.lane[lane] = values[lane] + (u64)offset;
  } else {
    const u32* values = warp.slot<u32>(base);
    for (u32 lane = 0; lane < warp_size; ++lane) addresses.lane[lane] = values[lane] + (u64)offset;
  }
  // Shared addresses have 32 bits, of which a 64-bit register may hold the generic form's lower part.
  if (space == Space::shared)
    for (u32 lane = 0; lane < warp_size; ++lane) addresses.lane[lane] = (u32)addresses.lane[lane];
}

void resolve(Warp& warp, Space space, const u64* addresses, u32 bytes, Access kind, HostPointers& pointers) {
  switch (space) {
    case Space::shared:
      return resolve_shared(warp, addresses, bytes, kind, pointers);
    case Space::global:
    case Space::constant:
      return resolve_global(warp, addresses, bytes, kind, pointers);
    case Space::local:
      return resolve_local(warp, addresses, bytes, kind, pointers);
    case Space::param:
      return resolve_parameter(warp, addresses, bytes, kind, pointers);
    case Space::generic:
      return resolve_generic(warp, addresses, bytes, kind, pointers);
  }
}

}  // namespace emulator
