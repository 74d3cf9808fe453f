// Instructions that the lanes of a member mask execute together: shfl, vote, match, redux, elect. The scheduler
// gathers the lanes; `warp.lanes` is the member mask when a handler runs. source[0] is the mask.
#include "lanes.h"

namespace emulator {
namespace {

enum ShuffleMode : u32 { up, down, butterfly, index };

// source[1]: value, source[2]: lane or distance, source[3]: clamp and segment mask (PTX ISA, shfl.sync).
void shuffle(Warp& warp, const Instruction& i) {
  u32 values[warp_size];
  std::memcpy(values, warp.slot<u32>(i.source[1]), sizeof values);
  const u32* b = warp.slot<u32>(i.source[2]);
  const u32* c = warp.slot<u32>(i.source[3]);
  u32* d = warp.slot<u32>(i.destination[0]);
  u32 in_range = 0, undefined = 0;
  for_each_lane(warp.lanes, [&](u32 lane) {
    const u32 segment = c[lane] >> 8 & 31, clamp = c[lane] & 31, distance = b[lane] & 31;
    const s32 last = (s32)((lane & segment) | (clamp & ~segment)), first = (s32)(lane & segment);
    s32 from;
    bool valid;
    switch ((ShuffleMode)i.immediate) {
      case up:
        from = (s32)lane - (s32)distance, valid = from >= last;
        break;
      case down:
        from = (s32)(lane + distance), valid = from <= last;
        break;
      case butterfly:
        from = (s32)(lane ^ distance), valid = from <= last;
        break;
      default:
        from = first | (s32)(distance & ~segment), valid = from <= last;
        break;
    }
    if (!valid) from = (s32)lane;
    in_range |= (u32)valid << lane;
    // The value of a lane that does not take part is undefined.
    if (!(warp.lanes >> from & 1)) undefined |= 1u << lane;
    d[lane] = values[from];
  });
  warp.written[i.destination[0].id] &= ~undefined;
  if (i.destinations > 1) set_predicate(warp, i.destination[1], in_range);
}

void decode_shuffle(Decoding& d) {
  Instruction& i = d.instruction;
  if (!d.take("sync")) d.unsupported("form without .sync");
  const char* const modes[] = {"up", "down", "bfly", "idx"};
  for (u32 mode = 0; mode < 4; ++mode)
    if (d.take(modes[mode])) i.immediate = mode;
  d.take_type();
  i.flow = Flow::collective;
  i.flag = true;
  const Operand& to = d.operand(0);
  if (to.kind == Operand::pair)
    for (const Operand& part : to.parts) d.destination(part);
  else
    d.destination(0);
  d.source(4, 32);
  for (int k = 1; k <= 3; ++k) d.source(k, 32);
  i.run = shuffle;
}

enum VoteMode : u32 { vote_all, vote_any, vote_uniform, vote_ballot };

void vote(Warp& warp, const Instruction& i) {
  const u32 ballot = (warp.predicate(i.source[1]) ^ (i.negated_source ? all_lanes : 0)) & warp.lanes;
  switch ((VoteMode)i.immediate) {
    case vote_all:
      return set_predicate(warp, i.destination[0], ballot == warp.lanes ? all_lanes : 0);
    case vote_any:
      return set_predicate(warp, i.destination[0], ballot ? all_lanes : 0);
    case vote_uniform:
      return set_predicate(warp, i.destination[0], ballot == warp.lanes || !ballot ? all_lanes : 0);
    case vote_ballot:
      return store_lanes<u32>(warp, i.destination[0], [=](u32) { return ballot; });
  }
}

void decode_vote(Decoding& d) {
  Instruction& i = d.instruction;
  if (!d.take("sync")) d.unsupported("form without .sync");
  const char* const modes[] = {"all", "any", "uni", "ballot"};
  for (u32 mode = 0; mode < 4; ++mode)
    if (d.take(modes[mode])) i.immediate = mode;
  d.take_type();
  i.flow = Flow::collective;
  i.flag = true;
  d.destination(0);
  d.source(2, 32);
  d.predicate_source(1);
  i.run = vote;
}

void match(Warp& warp, const Instruction& i) {
  u32 equal[warp_size], everybody = 0;
  for_each_lane(warp.lanes, [&](u32 lane) {
    equal[lane] = 0;
    for_each_lane(warp.lanes, [&](u32 other) {
      if (warp.value(i.source[1], lane) == warp.value(i.source[1], other)) equal[lane] |= 1u << other;
    });
    if (equal[lane] == warp.lanes) everybody |= 1u << lane;
  });
  const bool all = i.bytes;
  for_each_lane(warp.lanes, [&](u32 lane) {
    warp.set_value(i.destination[0], lane, all && equal[lane] != warp.lanes ? 0 : equal[lane]);
  });
  if (i.destinations > 1) set_predicate(warp, i.destination[1], everybody);
}

void decode_match(Decoding& d) {
  Instruction& i = d.instruction;
  const bool all = d.take("all");
  if ((!all && !d.take("any")) || !d.take("sync")) d.unsupported("form");
  const Type type = d.take_type();
  i.flow = Flow::collective;
  i.flag = true;
  i.bytes = all;
  if (d.operand(0).kind == Operand::pair)
    for (const Operand& part : d.operand(0).parts) d.destination(part);
  else
    d.destination(0);
  d.source(2, 32);
  d.source(1, bits_of(type));
  i.run = match;
}

enum Reduction : u32 { redux_add, redux_min, redux_max, redux_and, redux_or, redux_xor };

template <class T>
void reduce(Warp& warp, const Instruction& i) {
  const T* a = warp.slot<T>(i.source[1]);
  T result = a[__builtin_ctz(warp.lanes)];
  for_each_lane(warp.lanes & (warp.lanes - 1), [&](u32 lane) {
    switch ((Reduction)i.immediate) {
      case redux_add:
        result = (T)((u32)result + (u32)a[lane]);
        break;
      case redux_min:
        result = a[lane] < result ? a[lane] : result;
        break;
      case redux_max:
        result = a[lane] > result ? a[lane] : result;
        break;
      case redux_and:
        result &= a[lane];
        break;
      case redux_or:
        result |= a[lane];
        break;
      case redux_xor:
        result ^= a[lane];
        break;
    }
  });
  store_lanes<T>(warp, i.destination[0], [=](u32) { return result; });
}

void decode_reduce(Decoding& d) {
  Instruction& i = d.instruction;
  if (!d.take("sync")) d.unsupported("form");
  const char* const names[] = {"add", "min", "max", "and", "or", "xor"};
  for (u32 operation = 0; operation < 6; ++operation)
    if (d.take(names[operation])) i.immediate = operation;
  const Type type = d.take_type();
  if (is_float(type)) d.unsupported("type");
  i.flow = Flow::collective;
  i.flag = true;
  d.destination(0);
  d.source(2, 32);
  d.source(1, 32);
  i.run = type == Type::s32 ? reduce<s32> : reduce<u32>;
}

void elect(Warp& warp, const Instruction& i) {
  const u32 leader = (u32)__builtin_ctz(warp.lanes);
  store_lanes<u32>(warp, i.destination[0], [=](u32) { return leader; });
  set_predicate(warp, i.destination[1], 1u << leader);
}

void decode_elect(Decoding& d) {
  if (!d.take("sync") || d.operand(0).kind != Operand::pair) d.unsupported("form");
  d.instruction.flow = Flow::collective;
  d.instruction.flag = true;
  for (const Operand& part : d.operand(0).parts) d.destination(part);
  d.source(1, 32);
  d.instruction.run = elect;
}

// Not a collective: tells which lanes happen to run together, here as on the hardware.
void active_mask(Warp& warp, const Instruction& i) {
  const u32 lanes = warp.lanes;
  store_lanes<u32>(warp, i.destination[0], [=](u32) { return lanes; });
}

}  // namespace

void add_collectives(OpcodeTable& table) {
  table["shfl"] = decode_shuffle;
  table["vote"] = decode_vote;
  table["match"] = decode_match;
  table["redux"] = decode_reduce;
  table["elect"] = decode_elect;
  table["activemask"] = [](Decoding& d) {
    d.take_type();
    d.destination(0);
    d.instruction.run = active_mask;
  };
}

}  // namespace emulator
