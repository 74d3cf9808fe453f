// add, sub, mul, mad, div, rem, min, max and the like on integers; those on floats are in float_arithmetic.cpp.
#include <limits>

#include "lanes.h"

namespace emulator {
namespace {

using s128 = __int128;

template <class T>
using Unsigned = std::make_unsigned_t<T>;

template <class T>
using Wider = std::conditional_t<sizeof(T) == 2, std::conditional_t<std::is_signed_v<T>, s32, u32>,
                                 std::conditional_t<sizeof(T) == 4, std::conditional_t<std::is_signed_v<T>, s64, u64>,
                                                    std::conditional_t<std::is_signed_v<T>, s128, unsigned __int128>>>;

struct Add {
  template <class T>
  static T apply(T a, T b) {
    return (T)((Unsigned<T>)a + (Unsigned<T>)b);
  }
};
struct Subtract {
  template <class T>
  static T apply(T a, T b) {
    return (T)((Unsigned<T>)a - (Unsigned<T>)b);
  }
};
// The end of the range on a's side, where a sum or difference that overflows stays.
template <class T>
T limit_beside(T a) {
  return a < 0 ? std::numeric_limits<T>::min() : std::numeric_limits<T>::max();
}
struct AddSaturated {
  template <class T>
  static T apply(T a, T b) {
    T sum;
    return __builtin_add_overflow(a, b, &sum) ? limit_beside(a) : sum;
  }
};
struct SubtractSaturated {
  template <class T>
  static T apply(T a, T b) {
    T difference;
    return __builtin_sub_overflow(a, b, &difference) ? limit_beside(a) : difference;
  }
};
struct MultiplyLow {
  template <class T>
  static T apply(T a, T b) {
    return (T)((u64)a * (u64)b);
  }
};
struct MultiplyHigh {
  template <class T>
  static T apply(T a, T b) {
    return (T)((Wider<T>)a * (Wider<T>)b >> (8 * sizeof(T)));
  }
};
struct MultiplyAddLow {
  template <class T>
  static T apply(T a, T b, T c) {
    return (T)((u64)a * (u64)b + (u64)c);
  }
};
struct MultiplyAddHigh {
  template <class T>
  static T apply(T a, T b, T c) {
    return Add::apply<T>(MultiplyHigh::apply<T>(a, b), c);
  }
};
// Division by zero gives all ones, as the hardware does.
struct Divide {
  template <class T>
  static T apply(T a, T b) {
    if (b == 0) return (T)-1;
    return std::is_signed_v<T> && b == (T)-1 ? (T)(0 - (Unsigned<T>)a) : (T)(a / b);
  }
};
struct Remainder {
  template <class T>
  static T apply(T a, T b) {
    if (b == 0) return a;
    return std::is_signed_v<T> && b == (T)-1 ? (T)0 : (T)(a % b);
  }
};
struct Minimum {
  template <class T>
  static T apply(T a, T b) {
    return a < b ? a : b;
  }
};
struct Maximum {
  template <class T>
  static T apply(T a, T b) {
    return a > b ? a : b;
  }
};
struct Absolute {
  template <class T>
  static T apply(T a) {
    return a < 0 ? (T)(0 - (Unsigned<T>)a) : a;
  }
};
struct Negate {
  template <class T>
  static T apply(T a) {
    return (T)(0 - (Unsigned<T>)a);
  }
};
struct AbsoluteDifference {
  template <class T>
  static T apply(T a, T b, T c) {
    return Add::apply<T>(c, a < b ? Subtract::apply<T>(b, a) : Subtract::apply<T>(a, b));
  }
};
struct Multiply24Low {
  template <class T>
  static s64 low24(T a) {
    return std::is_signed_v<T> ? (s64)((s32)((u32)a << 8) >> 8) : (s64)((u32)a & 0xffffff);
  }
  template <class T>
  static T apply(T a, T b) {
    return (T)(low24(a) * low24(b));
  }
  template <class T>
  static T apply(T a, T b, T c) {
    return (T)(low24(a) * low24(b) + (s64)c);
  }
};

// mul.wide and mad.wide: the result has twice the bits.
template <class T>
void multiply_wide(Warp& warp, const Instruction& i) {
  const auto* a = warp.slot<Stored<T>>(i.source[0]);
  const auto* b = warp.slot<Stored<T>>(i.source[1]);
  store_lanes<Wider<T>>(warp, i.destination[0],
                        [=](u32 lane) { return (Wider<T>)loaded<T>(a[lane]) * (Wider<T>)loaded<T>(b[lane]); });
}
template <class T>
void multiply_add_wide(Warp& warp, const Instruction& i) {
  using W = Wider<T>;
  const auto* a = warp.slot<Stored<T>>(i.source[0]);
  const auto* b = warp.slot<Stored<T>>(i.source[1]);
  const auto* c = warp.slot<W>(i.source[2]);
  store_lanes<W>(warp, i.destination[0], [=](u32 lane) {
    return (W)((Unsigned<W>)((W)loaded<T>(a[lane]) * (W)loaded<T>(b[lane])) + (Unsigned<W>)c[lane]);
  });
}

Handler wide(const Decoding& d, Type type, bool add) {
  switch (type) {
    case Type::u16:
      return add ? multiply_add_wide<u16> : multiply_wide<u16>;
    case Type::s16:
      return add ? multiply_add_wide<s16> : multiply_wide<s16>;
    case Type::u32:
      return add ? multiply_add_wide<u32> : multiply_wide<u32>;
    case Type::s32:
      return add ? multiply_add_wide<s32> : multiply_wide<s32>;
    default:
      d.unsupported("type");
  }
}

// add.cc, addc and the like, which chain words into long integers. `flag`: takes the carry; `flag2`: leaves it.
template <bool subtract>
struct WithCarry {
  template <class T>
  static void run(Warp& warp, const Instruction& i) {
    using U = Unsigned<T>;
    const U* a = warp.slot<U>(i.source[0]);
    const U* b = warp.slot<U>(i.source[1]);
    U* d = warp.slot<U>(i.destination[0]);
    u32 carry_out = warp.carry;
    for_each_lane(warp.lanes, [&](u32 lane) {
      const u32 in = i.flag ? warp.carry >> lane & 1 : 0;
      const unsigned __int128 x = a[lane];
      // The carry of a subtraction is the borrow.
      const unsigned __int128 sum = subtract ? x - b[lane] - in : x + b[lane] + in;
      d[lane] = (U)sum;
      const u32 out = (u32)(sum >> (8 * sizeof(T))) & 1;
      carry_out = (carry_out & ~(1u << lane)) | out << lane;
    });
    if (i.flag2) warp.carry = carry_out;
  }
};

// mad.lo.cc and madc.hi and the like. `immediate`: high half.
struct MultiplyAddWithCarry {
  template <class T>
  static void run(Warp& warp, const Instruction& i) {
    using U = Unsigned<T>;
    const T* a = warp.slot<T>(i.source[0]);
    const T* b = warp.slot<T>(i.source[1]);
    const U* c = warp.slot<U>(i.source[2]);
    U* d = warp.slot<U>(i.destination[0]);
    u32 carry_out = warp.carry;
    for_each_lane(warp.lanes, [&](u32 lane) {
      const U product =
          i.immediate ? (U)MultiplyHigh::apply<T>(a[lane], b[lane]) : (U)MultiplyLow::apply<T>(a[lane], b[lane]);
      const unsigned __int128 sum = (unsigned __int128)product + c[lane] + (i.flag ? warp.carry >> lane & 1 : 0);
      d[lane] = (U)sum;
      carry_out = (carry_out & ~(1u << lane)) | ((u32)(sum >> (8 * sizeof(T))) & 1) << lane;
    });
    if (i.flag2) warp.carry = carry_out;
  }
};

template <class F, int sources, class Saturated = F>
void decode_simple(Decoding& d) {
  const bool saturated = !std::is_same_v<F, Saturated> && d.take("sat");
  const Type type = d.take_type();
  if constexpr (sources == 1)
    d.instruction.run = for_integer<Unary<F>>(d, type);
  else if constexpr (sources == 2)
    d.instruction.run = saturated ? for_integer<Binary<Saturated>>(d, type) : for_integer<Binary<F>>(d, type);
  else
    d.instruction.run = for_integer<Ternary<F>>(d, type);
  simple_operands(d, type, sources);
}

// Goes to the floating-point meaning of the opcode if the type is one.
template <Decode decode_integer>
void integer_or_float(Decoding& d) {
  for (const std::string& modifier : d.statement.modifiers)
    if (is_float(type_named(modifier))) return decode_float_arithmetic(d);
  decode_integer(d);
}

template <bool subtract, bool carry_in>
void decode_carry(Decoding& d) {
  d.instruction.flag = carry_in;
  d.instruction.flag2 = d.take("cc");
  const Type type = d.take_type();
  d.instruction.run = for_integer<WithCarry<subtract>>(d, type);
  simple_operands(d, type, 2);
}

void decode_add(Decoding& d) {
  for (const std::string& modifier : d.statement.modifiers)
    if (modifier == "cc") return decode_carry<false, false>(d);
  decode_simple<Add, 2, AddSaturated>(d);
}

void decode_subtract(Decoding& d) {
  for (const std::string& modifier : d.statement.modifiers)
    if (modifier == "cc") return decode_carry<true, false>(d);
  decode_simple<Subtract, 2, SubtractSaturated>(d);
}

void decode_multiply(Decoding& d) {
  const bool is_wide = d.take("wide"), high = d.take("hi");
  d.take("lo");
  const Type type = d.take_type();
  d.instruction.run = is_wide ? wide(d, type, false)
                      : high  ? for_integer<Binary<MultiplyHigh>>(d, type)
                              : for_integer<Binary<MultiplyLow>>(d, type);
  simple_operands(d, type, 2);
}

template <bool carry_in>
void decode_multiply_add(Decoding& d) {
  const bool is_wide = d.take("wide"), high = d.take("hi"), carry_out = d.take("cc");
  d.take("lo");
  const Type type = d.take_type();
  if (carry_in || carry_out) {
    d.instruction.flag = carry_in;
    d.instruction.flag2 = carry_out;
    d.instruction.immediate = high;
    d.instruction.run = for_integer<MultiplyAddWithCarry>(d, type);
  } else {
    d.instruction.run = is_wide ? wide(d, type, true)
                        : high  ? for_integer<Ternary<MultiplyAddHigh>>(d, type)
                                : for_integer<Ternary<MultiplyAddLow>>(d, type);
  }
  d.destination(0);
  d.source(1, bits_of(type));
  d.source(2, bits_of(type));
  d.source(3, bits_of(type) * (is_wide ? 2 : 1));
}

template <int sources>
void decode_multiply24(Decoding& d) {
  if (!d.take("lo")) d.unsupported("high half");
  const Type type = d.take_type();
  const bool is_signed = type == Type::s32;
  if constexpr (sources == 2)
    d.instruction.run = is_signed ? &Binary<Multiply24Low>::run<s32> : &Binary<Multiply24Low>::run<u32>;
  else
    d.instruction.run = is_signed ? &Ternary<Multiply24Low>::run<s32> : &Ternary<Multiply24Low>::run<u32>;
  simple_operands(d, type, sources);
}

// dp4a: c plus the products of four bytes. `flag`, `flag2`: the bytes of a, b are signed.
void dot_of_bytes(Warp& warp, const Instruction& i) {
  const u32* a = warp.slot<u32>(i.source[0]);
  const u32* b = warp.slot<u32>(i.source[1]);
  const u32* c = warp.slot<u32>(i.source[2]);
  store_lanes<u32>(warp, i.destination[0], [&](u32 lane) {
    u32 sum = c[lane];
    for (int byte = 0; byte < 32; byte += 8) {
      const s32 x = i.flag ? (s32)(s8)(a[lane] >> byte) : (s32)(u8)(a[lane] >> byte);
      const s32 y = i.flag2 ? (s32)(s8)(b[lane] >> byte) : (s32)(u8)(b[lane] >> byte);
      sum += (u32)(x * y);
    }
    return sum;
  });
}

void decode_dp4a(Decoding& d) {
  d.instruction.flag = d.take_type() == Type::s32;
  d.instruction.flag2 = d.take_type() == Type::s32;
  d.instruction.run = dot_of_bytes;
  simple_operands(d, Type::u32, 3);
}

}  // namespace

void add_integer_arithmetic(OpcodeTable& table) {
  table["add"] = integer_or_float<decode_add>;
  table["sub"] = integer_or_float<decode_subtract>;
  table["addc"] = decode_carry<false, true>;
  table["subc"] = decode_carry<true, true>;
  table["mul"] = integer_or_float<decode_multiply>;
  table["mad"] = integer_or_float<decode_multiply_add<false>>;
  table["madc"] = decode_multiply_add<true>;
  table["mul24"] = decode_multiply24<2>;
  table["mad24"] = decode_multiply24<3>;
  table["div"] = integer_or_float<decode_simple<Divide, 2>>;
  table["rem"] = decode_simple<Remainder, 2>;
  table["min"] = integer_or_float<decode_simple<Minimum, 2>>;
  table["max"] = integer_or_float<decode_simple<Maximum, 2>>;
  table["abs"] = integer_or_float<decode_simple<Absolute, 1>>;
  table["neg"] = integer_or_float<decode_simple<Negate, 1>>;
  table["sad"] = decode_simple<AbsoluteDifference, 3>;
  table["dp4a"] = decode_dp4a;
}

}  // namespace emulator
