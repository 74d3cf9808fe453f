// mov with packing and unpacking, the clocks, cvta and isspacep.
#include "lanes.h"

namespace emulator {
namespace {

// A copy is as defined as its source: moving a value that was never written is not yet a mistake.
void copy_definedness(Warp& warp, const Slot& from, const Slot& to) {
  warp.written[to.id] &= ~(warp.lanes & ~warp.written[from.id]);
}

template <class T>
void move(Warp& warp, const Instruction& i) {
  const T* a = warp.slot<T>(i.source[0]);
  store_lanes<T>(warp, i.destination[0], [=](u32 lane) { return a[lane]; });
  copy_definedness(warp, i.source[0], i.destination[0]);
}

void move_predicate(Warp& warp, const Instruction& i) {
  set_predicate(warp, i.destination[0], warp.predicate(i.source[0]));
  copy_definedness(warp, i.source[0], i.destination[0]);
}

// mov.b64 d, {a, b}: `bytes` is the size of one part in bits.
void pack(Warp& warp, const Instruction& i) {
  const u64 mask = (1ull << i.bytes) - 1;
  for_each_lane(warp.lanes, [&](u32 lane) {
    u64 value = 0;
    for (int part = 0; part < i.sources; ++part) value |= (warp.value(i.source[part], lane) & mask) << part * i.bytes;
    warp.set_value(i.destination[0], lane, value);
  });
}

void unpack(Warp& warp, const Instruction& i) {
  const u64 mask = (1ull << i.bytes) - 1;
  for_each_lane(warp.lanes, [&](u32 lane) {
    const u64 value = warp.value(i.source[0], lane);
    for (int part = 0; part < i.destinations; ++part)
      warp.set_value(i.destination[part], lane, value >> part * i.bytes & mask);
  });
}

// Time is the number of instructions that the launch has run.
void read_clock(Warp& warp, const Instruction& i) {
  const u64 now = (u64)warp.launch->traffic.counts.instructions;
  for_each_lane(warp.lanes, [&](u32 lane) { warp.set_value(i.destination[0], lane, i.flag ? now >> 32 : now); });
}

void decode_move(Decoding& d) {
  const Type type = d.take_type();
  const Operand& to = d.operand(0);
  const Operand& from = d.operand(1);
  Instruction& i = d.instruction;
  if (bits_of(type) > 64) d.unsupported("type");
  if (from.kind == Operand::vector) {
    i.bytes = (u8)(bits_of(type) / (int)from.parts.size());
    i.run = pack;
    d.destination(0);
    for (const Operand& part : from.parts) d.source(part, i.bytes);
  } else if (to.kind == Operand::vector) {
    i.bytes = (u8)(bits_of(type) / (int)to.parts.size());
    i.run = unpack;
    for (const Operand& part : to.parts) d.destination(part);
    d.source(1, bits_of(type));
  } else if (from.text.compare(0, 6, "%clock") == 0 || from.text.compare(0, 12, "%globaltimer") == 0) {
    i.flag = from.text.size() > 3 && from.text.compare(from.text.size() - 3, 3, "_hi") == 0;
    i.run = read_clock;
    d.destination(0);
  } else {
    i.run = type == Type::pred ? move_predicate : bits_of(type) == 64 ? move<u64> : move<u32>;
    d.destination(0);
    d.source(1, bits_of(type), false);
  }
}

u64 window_of(Space space) {
  switch (space) {
    case Space::shared:
      return shared_window;
    case Space::local:
      return local_window;
    case Space::param:
      return parameter_window;
    default:
      return 0;  // global and constant memory lie where they lie in this process
  }
}

// Generic addresses have the space's window added; `offset` is what to add.
void convert_address(Warp& warp, const Instruction& i) {
  const u64* a = warp.slot<u64>(i.source[0]);
  const u64 offset = (u64)i.offset;
  store_lanes<u64>(warp, i.destination[0], [=](u32 lane) { return a[lane] + offset; });
}

void decode_convert_address(Decoding& d) {
  const bool from_generic = d.take("to");
  const Space space = d.take_space();
  if (d.take_type() != Type::u64) d.unsupported("type");
  d.instruction.offset = (s64)window_of(space);
  if (from_generic) d.instruction.offset = -d.instruction.offset;
  d.instruction.run = convert_address;
  simple_operands(d, Type::u64, 1);
}

void is_in_space(Warp& warp, const Instruction& i) {
  const u64* a = warp.slot<u64>(i.source[0]);
  const u64 window = window_of(i.space);
  set_predicate(warp, i.destination[0], lanes_where([=](u32 lane) { return (a[lane] & window_mask) == window; }));
}

void decode_is_in_space(Decoding& d) {
  d.instruction.space = d.take_space();
  if (d.instruction.space == Space::constant) d.unsupported("space");
  d.instruction.run = is_in_space;
  simple_operands(d, Type::u64, 1);
}

}  // namespace

void add_moves(OpcodeTable& table) {
  table["mov"] = decode_move;
  table["cvta"] = decode_convert_address;
  table["isspacep"] = decode_is_in_space;
}

}  // namespace emulator
