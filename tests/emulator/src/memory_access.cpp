// ld and st, and the instructions about caches, which have nothing to do here.
#include "lanes.h"

namespace emulator {
namespace {

template <class F>
void for_active_lanes(const Warp& warp, F&& f) {
  if (warp.lanes == all_lanes)
    for (u32 lane = 0; lane < warp_size; ++lane) f(lane);
  else
    for_each_lane(warp.lanes, f);
}

template <class T>
void load_element(Warp& warp, const HostPointers& from, u32 offset, const Slot& to) {
  const auto value = [&](u32 lane) {
    T result;
    std::memcpy(&result, from.lane[lane] + offset, sizeof(T));
    return result;
  };
  if (to.bits == 64) {
    u64* registers = warp.slot<u64>(to);
    for_active_lanes(warp, [&](u32 lane) { registers[lane] = (u64)(s64)value(lane); });
  } else {
    u32* registers = warp.slot<u32>(to);
    for_active_lanes(warp, [&](u32 lane) { registers[lane] = (u32)(s32)value(lane); });
  }
}

template <class T>
void store_element(Warp& warp, const HostPointers& to, u32 offset, const Slot& from) {
  const auto store = [&](u32 lane, auto value) {
    const T stored = (T)value;
    std::memcpy(to.lane[lane] + offset, &stored, sizeof(T));
  };
  if (from.bits == 64) {
    const u64* registers = warp.slot<u64>(from);
    for_active_lanes(warp, [&](u32 lane) { store(lane, registers[lane]); });
  } else {
    const u32* registers = warp.slot<u32>(from);
    for_active_lanes(warp, [&](u32 lane) { store(lane, registers[lane]); });
  }
}

void load(Warp& warp, const Instruction& i) {
  Addresses addresses;
  HostPointers from;
  compute_addresses(warp, i.source[0], i.offset, i.space, addresses);
  resolve(warp, i.space, addresses.lane, (u32)i.bytes * i.count, Access::read, from);
  for (u32 element = 0; element < i.count; ++element) {
    const u32 offset = element * i.bytes;
    const Slot& to = i.destination[element];
    switch (i.bytes) {
      case 1:
        i.flag ? load_element<s8>(warp, from, offset, to) : load_element<u8>(warp, from, offset, to);
        break;
      case 2:
        i.flag ? load_element<s16>(warp, from, offset, to) : load_element<u16>(warp, from, offset, to);
        break;
      case 4:
        i.flag ? load_element<s32>(warp, from, offset, to) : load_element<u32>(warp, from, offset, to);
        break;
      default:
        load_element<u64>(warp, from, offset, to);
        break;
    }
  }
}

void store(Warp& warp, const Instruction& i) {
  Addresses addresses;
  HostPointers to;
  compute_addresses(warp, i.source[0], i.offset, i.space, addresses);
  resolve(warp, i.space, addresses.lane, (u32)i.bytes * i.count, Access::write, to);
  for (u32 element = 0; element < i.count; ++element) {
    const u32 offset = element * i.bytes;
    const Slot& from = i.source[1 + element];
    switch (i.bytes) {
      case 1:
        store_element<u8>(warp, to, offset, from);
        break;
      case 2:
        store_element<u16>(warp, to, offset, from);
        break;
      case 4:
        store_element<u32>(warp, to, offset, from);
        break;
      default:
        store_element<u64>(warp, to, offset, from);
        break;
    }
  }
}

// Modifiers that say how to cache or order an access. The emulator runs one instruction at a time on a memory without
// caches, so they change nothing.
bool take_cache_modifiers(Decoding& d) {
  const char* const names[] = {"weak",
                               "relaxed",
                               "acquire",
                               "release",
                               "volatile",
                               "cta",
                               "gpu",
                               "sys",
                               "nc",
                               "ca",
                               "cg",
                               "cs",
                               "cv",
                               "lu",
                               "wb",
                               "wt",
                               "L1::evict_normal",
                               "L1::evict_unchanged",
                               "L1::evict_first",
                               "L1::evict_last",
                               "L1::no_allocate",
                               "L2::64B",
                               "L2::128B",
                               "L2::256B"};
  for (const char* name : names) d.take(name);
  return d.take("L2::cache_hint");
}

void decode_access(Decoding& d, bool is_load) {
  Instruction& i = d.instruction;
  const bool with_policy = take_cache_modifiers(d);
  i.space = d.take_space();
  i.count = d.take("v2") ? 2 : d.take("v4") ? 4 : 1;
  const Type type = d.take_type();
  if (type == Type::none || bits_of(type) > 64 || type == Type::pred) d.unsupported("type");
  i.bytes = (u8)bytes_of(type);
  i.flag = type == Type::s8 || type == Type::s16 || type == Type::s32;
  i.run = is_load ? load : store;
  d.address(is_load ? 1 : 0);
  if (d.operand_count() != (with_policy ? 3u : 2u)) d.unsupported("number of operands");
  const Operand& value = d.operand(is_load ? 0 : 1);
  std::vector<Operand> values = value.kind == Operand::vector ? value.parts : std::vector<Operand>{value};
  if (values.size() != i.count) d.unsupported("number of elements");
  for (const Operand& element : values) {
    if (is_load)
      d.destination(element);
    else
      d.source(element, bits_of(type));
  }
}

void nothing(Warp&, const Instruction&) {}

// Hints about caches.
void decode_hint(Decoding& d) {
  const char* const names[] = {"global", "local", "L1", "L2", "L2::evict_last", "L2::evict_normal", "L2::128B"};
  for (const char* name : names) d.take(name);
  d.instruction.run = nothing;
}

void create_policy(Warp& warp, const Instruction& i) {
  for_each_lane(warp.lanes, [&](u32 lane) { warp.set_value(i.destination[0], lane, 0); });
}

void decode_create_policy(Decoding& d) {
  const char* const names[] = {"fractional",      "L2::evict_last",      "L2::evict_normal",
                               "L2::evict_first", "L2::evict_unchanged", "b64"};
  for (const char* name : names) d.take(name);
  d.destination(0);
  d.instruction.run = create_policy;
}

}  // namespace

void add_memory_access(OpcodeTable& table) {
  table["ld"] = [](Decoding& d) { decode_access(d, true); };
  table["ldu"] = [](Decoding& d) { decode_access(d, true); };
  table["st"] = [](Decoding& d) { decode_access(d, false); };
  table["prefetch"] = decode_hint;
  table["prefetchu"] = decode_hint;
  table["discard"] = decode_hint;
  table["applypriority"] = decode_hint;
  table["createpolicy"] = decode_create_policy;
}

}  // namespace emulator
