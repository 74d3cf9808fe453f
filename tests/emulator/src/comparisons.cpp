// setp, set, selp and slct.
#include "half.h"

namespace emulator {
namespace {

enum Relation {
  eq,
  ne,
  lt,
  le,
  gt,
  ge,
  unordered_eq,
  unordered_ne,
  unordered_lt,
  unordered_le,
  unordered_gt,
  unordered_ge,
  both_numbers,
  any_nan
};

constexpr const char* relation_names[] = {"eq",  "ne",  "lt",  "le",  "gt",  "ge",  "equ",
                                          "neu", "ltu", "leu", "gtu", "geu", "num", "nan"};

template <Relation r, class T>
inline bool holds(T a, T b) {
  // On values with an order the ordered and unordered relations differ only where one is NaN. C's != is true there.
  if constexpr (r == eq) return a == b;
  if constexpr (r == ne) return a < b || a > b;
  if constexpr (r == lt) return a < b;
  if constexpr (r == le) return a <= b;
  if constexpr (r == gt) return a > b;
  if constexpr (r == ge) return a >= b;
  if constexpr (r == unordered_eq) return !(a < b || a > b);
  if constexpr (r == unordered_ne) return a != b;
  if constexpr (r == unordered_lt) return !(a >= b);
  if constexpr (r == unordered_le) return !(a > b);
  if constexpr (r == unordered_gt) return !(a <= b);
  if constexpr (r == unordered_ge) return !(a < b);
  if constexpr (r == both_numbers) return a == a && b == b;
  if constexpr (r == any_nan) return a != a || b != b;
}

template <class T>
inline T as_number(T value) {
  return value;
}
inline double as_number(Half value) { return to_double(value); }
inline double as_number(BFloat16 value) { return to_double(value); }

enum Combination : u32 { plain, with_and, with_or, with_xor };

u32 combined(Warp& warp, const Instruction& i, u32 value) {
  if (i.immediate == plain) return value;
  const u32 other = warp.predicate(i.source[2]) ^ (i.negated_source ? all_lanes : 0);
  return i.immediate == with_and ? value & other : i.immediate == with_or ? value | other : value ^ other;
}

void deliver_predicates(Warp& warp, const Instruction& i, u32 result) {
  const u32 direct = combined(warp, i, result), inverse = combined(warp, i, ~result);
  set_predicate(warp, i.destination[0], direct);
  if (i.destinations > 1) set_predicate(warp, i.destination[1], inverse);
}

template <class T>
void deliver_values(Warp& warp, const Instruction& i, u32 result, T yes) {
  result = combined(warp, i, result);
  store_lanes<T>(warp, i.destination[0], [=](u32 lane) { return result >> lane & 1 ? yes : (T)0; });
}

// `type` is the destination's, none for predicates.
void deliver(Warp& warp, const Instruction& i, u32 result) {
  switch (i.type) {
    case Type::none:
      return deliver_predicates(warp, i, result);
    case Type::f32:
      return deliver_values<float>(warp, i, result, 1.0f);
    case Type::f16:
      return deliver_values<u16>(warp, i, result, 0x3c00);
    case Type::bf16:
      return deliver_values<u16>(warp, i, result, 0x3f80);
    default:
      return deliver_values<u32>(warp, i, result, ~0u);
  }
}

template <Relation r>
struct Compare {
  template <class T>
  static void run(Warp& warp, const Instruction& i) {
    const auto* a = warp.slot<Stored<T>>(i.source[0]);
    const auto* b = warp.slot<Stored<T>>(i.source[1]);
    deliver(warp, i, lanes_where([=](u32 lane) {
              return holds<r>(as_number(loaded<T>(a[lane])), as_number(loaded<T>(b[lane])));
            }));
  }
};

// On the two halves of a register: to two predicates, or to the two halves of the destination.
template <Relation r>
struct ComparePacked {
  template <class T>
  static void run(Warp& warp, const Instruction& i) {
    const u32* a = warp.slot<u32>(i.source[0]);
    const u32* b = warp.slot<u32>(i.source[1]);
    u32 result[2];
    for (int half = 0; half < 2; ++half)
      result[half] = combined(warp, i, lanes_where([=](u32 lane) {
                                return holds<r>(to_double(T{(u16)(a[lane] >> 16 * half)}),
                                                to_double(T{(u16)(b[lane] >> 16 * half)}));
                              }));
    if (i.type == Type::none) {
      set_predicate(warp, i.destination[0], result[0]);
      set_predicate(warp, i.destination[1], result[1]);
      return;
    }
    const u32 yes = i.type == Type::f16x2 ? 0x3c00 : i.type == Type::bf16x2 ? 0x3f80 : 0xffff;
    store_lanes<u32>(warp, i.destination[0], [=](u32 lane) {
      return (result[0] >> lane & 1 ? yes : 0) | (result[1] >> lane & 1 ? yes << 16 : 0);
    });
  }
};

template <Relation r>
Handler handler_for_type(const Decoding& d, Type type) {
  switch (type) {
    case Type::f32:
      return &Compare<r>::template run<float>;
    case Type::f64:
      return &Compare<r>::template run<double>;
    case Type::f16:
      return &Compare<r>::template run<Half>;
    case Type::bf16:
      return &Compare<r>::template run<BFloat16>;
    case Type::f16x2:
      return &ComparePacked<r>::template run<Half>;
    case Type::bf16x2:
      return &ComparePacked<r>::template run<BFloat16>;
    default:
      return for_integer<Compare<r>>(d, type);
  }
}

Handler handler(const Decoding& d, int relation, Type type) {
  static constexpr Handler (*by_relation[])(const Decoding&, Type) = {
      handler_for_type<eq>,           handler_for_type<ne>,           handler_for_type<lt>,
      handler_for_type<le>,           handler_for_type<gt>,           handler_for_type<ge>,
      handler_for_type<unordered_eq>, handler_for_type<unordered_ne>, handler_for_type<unordered_lt>,
      handler_for_type<unordered_le>, handler_for_type<unordered_gt>, handler_for_type<unordered_ge>,
      handler_for_type<both_numbers>, handler_for_type<any_nan>};
  return by_relation[relation](d, type);
}

int take_relation(Decoding& d) {
  // Names for unsigned integers mean the same, their type says it.
  if (d.take("lo")) return lt;
  if (d.take("ls")) return le;
  if (d.take("hi")) return gt;
  if (d.take("hs")) return ge;
  for (int relation = eq; relation <= any_nan; ++relation)
    if (d.take(relation_names[relation])) return relation;
  d.unsupported("relation");
}

void decode_comparison(Decoding& d, bool to_predicate) {
  const int relation = take_relation(d);
  d.instruction.immediate = d.take("and") ? with_and : d.take("or") ? with_or : d.take("xor") ? with_xor : plain;
  d.take_float_modifiers();
  if (!to_predicate) d.instruction.type = d.take_type();
  const Type type = d.take_type();
  d.instruction.run = handler(d, relation, type);
  if (d.operand(0).kind == Operand::pair)
    for (const Operand& part : d.operand(0).parts) d.destination(part);
  else
    d.destination(0);
  if (to_predicate && d.instruction.destinations == 1 && (type == Type::f16x2 || type == Type::bf16x2))
    d.unsupported("operands");
  d.source(1, bits_of(type));
  d.source(2, bits_of(type));
  if (d.instruction.immediate != plain) d.predicate_source(3);
  apply_float_modifiers(d.instruction, Type::none);
}

// The choice is as defined as the value that it takes: the other one may never have been written.
template <class T>
void choose(Warp& warp, const Instruction& i, u32 first) {
  const T* a = warp.slot<T>(i.source[1]);
  const T* b = warp.slot<T>(i.source[2]);
  store_lanes<T>(warp, i.destination[0], [=](u32 lane) { return first >> lane & 1 ? a[lane] : b[lane]; });
  const u32 defined = (warp.written[i.source[1].id] & first) | (warp.written[i.source[2].id] & ~first);
  warp.written[i.destination[0].id] &= ~(warp.lanes & ~defined);
}

void select(Warp& warp, const Instruction& i) {
  const u32 first = warp.predicate(i.source[0]) ^ (i.negated_source ? all_lanes : 0);
  if (i.bytes == 8)
    choose<u64>(warp, i, first);
  else
    choose<u32>(warp, i, first);
}

void decode_select(Decoding& d) {
  const Type type = d.take_type();
  d.instruction.bytes = (u8)bytes_of(type);
  d.destination(0);
  d.predicate_source(3);
  d.source(1, bits_of(type), false);
  d.source(2, bits_of(type), false);
  d.instruction.run = select;
}

// slct: by the sign of the third operand.
template <class T>
void select_by_sign(Warp& warp, const Instruction& i) {
  const T* c = warp.slot<T>(i.source[0]);
  const u32 first = lanes_where([=](u32 lane) { return c[lane] >= 0; });
  if (i.bytes == 8)
    choose<u64>(warp, i, first);
  else
    choose<u32>(warp, i, first);
}

void decode_select_by_sign(Decoding& d) {
  d.take_float_modifiers();
  const Type type = d.take_type();
  const bool by_float = d.take_type() == Type::f32;
  d.instruction.bytes = (u8)bytes_of(type);
  d.instruction.run = by_float ? select_by_sign<float> : select_by_sign<s32>;
  d.destination(0);
  d.source(3, 32);
  d.source(1, bits_of(type), false);
  d.source(2, bits_of(type), false);
  apply_float_modifiers(d.instruction, Type::none);
}

}  // namespace

void add_comparisons(OpcodeTable& table) {
  table["setp"] = [](Decoding& d) { decode_comparison(d, true); };
  table["set"] = [](Decoding& d) { decode_comparison(d, false); };
  table["selp"] = decode_select;
  table["slct"] = decode_select_by_sign;
}

}  // namespace emulator
