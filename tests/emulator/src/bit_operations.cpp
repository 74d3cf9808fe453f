// Logic, shifts, bit fields and byte permutation.
#include "lanes.h"

namespace emulator {
namespace {

struct And {
  template <class T>
  static T apply(T a, T b) {
    return a & b;
  }
};
struct Or {
  template <class T>
  static T apply(T a, T b) {
    return a | b;
  }
};
struct Xor {
  template <class T>
  static T apply(T a, T b) {
    return a ^ b;
  }
};
struct Not {
  template <class T>
  static T apply(T a) {
    return (T)~a;
  }
};
struct LogicalNot {
  template <class T>
  static T apply(T a) {
    return a == 0;
  }
};

template <class F>
void on_predicates(Warp& warp, const Instruction& i) {
  const u32 a = warp.predicate(i.source[0]);
  const u32 b = i.sources > 1 ? warp.predicate(i.source[1]) : 0;
  if constexpr (std::is_same_v<F, Not>)
    set_predicate(warp, i.destination[0], ~a);
  else
    set_predicate(warp, i.destination[0], F::template apply<u32>(a, b));
}

template <class Family, class F, int sources>
void decode_logic(Decoding& d) {
  const Type type = d.take_type();
  if constexpr (!std::is_same_v<F, LogicalNot>)
    if (type == Type::pred) d.instruction.run = on_predicates<F>;
  if (type != Type::pred) d.instruction.run = for_integer<Family>(d, type);
  simple_operands(d, type, sources);
}

// Shift amounts are u32 whatever the type, and clamp at its width.
template <bool left>
struct Shift {
  template <class T>
  static void run(Warp& warp, const Instruction& i) {
    constexpr u32 width = 8 * sizeof(T);
    const auto* a = warp.slot<Stored<T>>(i.source[0]);
    const u32* amounts = warp.slot<u32>(i.source[1]);
    store_lanes<T>(warp, i.destination[0], [=](u32 lane) {
      const T value = loaded<T>(a[lane]);
      const u32 amount = amounts[lane];
      if (left) return amount >= width ? (T)0 : (T)((std::make_unsigned_t<T>)value << (amount % width));
      if (std::is_signed_v<T>) return (T)(value >> (amount >= width ? width - 1 : amount));
      return amount >= width ? (T)0 : (T)(value >> (amount % width));
    });
  }
};

template <bool left>
void decode_shift(Decoding& d) {
  const Type type = d.take_type();
  d.instruction.run = for_integer<Shift<left>>(d, type);
  d.destination(0);
  d.source(1, bits_of(type));
  d.source(2, 32);
}

// shf: a 32-bit window of the 64 bits {b, a}.
template <bool left, bool wrap>
void funnel_shift(Warp& warp, const Instruction& i) {
  const u32* a = warp.slot<u32>(i.source[0]);
  const u32* b = warp.slot<u32>(i.source[1]);
  const u32* c = warp.slot<u32>(i.source[2]);
  store_lanes<u32>(warp, i.destination[0], [=](u32 lane) {
    const u32 amount = wrap ? c[lane] & 31 : c[lane] > 32 ? 32 : c[lane];
    const u64 both = (u64)b[lane] << 32 | a[lane];
    return (u32)(left ? both << amount >> 32 : both >> amount);
  });
}

void decode_funnel_shift(Decoding& d) {
  const bool left = d.take("l");
  if (!left && !d.take("r")) d.unsupported("direction");
  const bool wrap = d.take("wrap");
  if (!wrap && !d.take("clamp")) d.unsupported("mode");
  d.instruction.run = left ? (wrap ? funnel_shift<true, true> : funnel_shift<true, false>)
                           : (wrap ? funnel_shift<false, true> : funnel_shift<false, false>);
  d.take_type();
  simple_operands(d, Type::b32, 3);
}

struct ExtractField {
  template <class T>
  static void run(Warp& warp, const Instruction& i) {
    constexpr u32 width = 8 * sizeof(T);
    const T* a = warp.slot<T>(i.source[0]);
    const u32* positions = warp.slot<u32>(i.source[1]);
    const u32* lengths = warp.slot<u32>(i.source[2]);
    store_lanes<T>(warp, i.destination[0], [=](u32 lane) {
      const u32 position = positions[lane] & 255, length = lengths[lane] & 255;
      if (length == 0) return (T)0;
      // Beyond the value's end a signed field goes on with the sign.
      const u32 shift = position >= width ? width - 1 : position;
      const T shifted = position >= width && !std::is_signed_v<T> ? (T)0 : (T)(a[lane] >> shift);
      if (length >= width) return shifted;
      const u32 unused = width - length;
      return (T)((T)((std::make_unsigned_t<T>)shifted << unused) >> unused);
    });
  }
};

struct InsertField {
  template <class T>
  static void run(Warp& warp, const Instruction& i) {
    constexpr u32 width = 8 * sizeof(T);
    const T* a = warp.slot<T>(i.source[0]);
    const T* b = warp.slot<T>(i.source[1]);
    const u32* positions = warp.slot<u32>(i.source[2]);
    const u32* lengths = warp.slot<u32>(i.source[3]);
    store_lanes<T>(warp, i.destination[0], [=](u32 lane) {
      const u32 position = positions[lane] & 255, length = lengths[lane] & 255;
      if (position >= width || length == 0) return b[lane];
      const T ones = length >= width ? (T)-1 : (T)(((T)1 << length) - 1);
      const T mask = (T)(ones << position);
      return (T)((b[lane] & ~mask) | ((a[lane] << position) & mask));
    });
  }
};

void decode_extract(Decoding& d) {
  const Type type = d.take_type();
  d.instruction.run = for_integer<ExtractField>(d, type);
  d.destination(0);
  d.source(1, bits_of(type));
  d.source(2, 32);
  d.source(3, 32);
}

void decode_insert(Decoding& d) {
  const Type type = d.take_type();
  d.instruction.run = for_integer<InsertField>(d, type);
  d.destination(0);
  d.source(1, bits_of(type));
  d.source(2, bits_of(type));
  d.source(3, 32);
  d.source(4, 32);
}

struct ReverseBits {
  template <class T>
  static T apply(T a) {
    u64 v = (u64)(std::make_unsigned_t<T>)a << (64 - 8 * sizeof(T));
    v = (v >> 1 & 0x5555555555555555) | (v & 0x5555555555555555) << 1;
    v = (v >> 2 & 0x3333333333333333) | (v & 0x3333333333333333) << 2;
    v = (v >> 4 & 0x0f0f0f0f0f0f0f0f) | (v & 0x0f0f0f0f0f0f0f0f) << 4;
    return (T)__builtin_bswap64(v);
  }
};

// popc, clz and bfind have a u32 result for any operand.
struct CountOnes {
  template <class T>
  static u32 apply(T a, bool) {
    return (u32)__builtin_popcountll((std::make_unsigned_t<T>)a);
  }
};
struct CountLeadingZeros {
  template <class T>
  static u32 apply(T a, bool) {
    return a ? (u32)__builtin_clzll((std::make_unsigned_t<T>)a) - (64 - 8 * sizeof(T)) : 8 * (u32)sizeof(T);
  }
};
struct FindLeadingBit {
  template <class T>
  static u32 apply(T a, bool shift_amount) {
    const auto v = (std::make_unsigned_t<T>)(a < 0 ? ~a : a);
    if (!v) return ~0u;
    const u32 position = 63 - (u32)__builtin_clzll(v);
    return shift_amount ? 8 * (u32)sizeof(T) - 1 - position : position;
  }
};
template <class F>
struct ToU32 {
  template <class T>
  static void run(Warp& warp, const Instruction& i) {
    const auto* a = warp.slot<Stored<T>>(i.source[0]);
    store_lanes<u32>(warp, i.destination[0],
                     [&](u32 lane) { return F::template apply<T>(loaded<T>(a[lane]), i.flag); });
  }
};
template <class F>
void decode_count(Decoding& d) {
  d.instruction.flag = d.take("shiftamt");
  const Type type = d.take_type();
  d.instruction.run = for_integer<ToU32<F>>(d, type);
  simple_operands(d, type, 1);
}

// lop3: any function of three bits, by its truth table `immediate`.
void logic_of_three(Warp& warp, const Instruction& i) {
  const u32* a = warp.slot<u32>(i.source[0]);
  const u32* b = warp.slot<u32>(i.source[1]);
  const u32* c = warp.slot<u32>(i.source[2]);
  u32 row[8];  // all ones where the table has a one
  for (int r = 0; r < 8; ++r) row[r] = i.immediate >> r & 1 ? ~0u : 0;
  store_lanes<u32>(warp, i.destination[0], [=](u32 lane) {
    const u32 x = a[lane], y = b[lane], z = c[lane];
    return (~x & ((~y & ((~z & row[0]) | (z & row[1]))) | (y & ((~z & row[2]) | (z & row[3]))))) |
           (x & ((~y & ((~z & row[4]) | (z & row[5]))) | (y & ((~z & row[6]) | (z & row[7])))));
  });
}

void decode_lop3(Decoding& d) {
  d.take_type();
  d.destination(0);
  for (int k = 1; k <= 3; ++k) d.source(k, 32);
  d.instruction.immediate = (u32)d.number(4);
  d.instruction.run = logic_of_three;
}

enum PermuteMode { generic, forward4, backward4, replicate8, edge_left, edge_right, replicate16 };

u32 permute_selector(PermuteMode mode, u32 c) {
  c &= mode == replicate16 ? 1 : 3;
  switch (mode) {
    case forward4:
      return 0x3210 + 0x1111 * c;
    case backward4:
      return (c & 7) | ((c - 1) & 7) << 4 | ((c - 2) & 7) << 8 | ((c - 3) & 7) << 12;
    case replicate8:
      return 0x1111 * c;
    case edge_left: {
      const u32 table[] = {0x3210, 0x3211, 0x3222, 0x3333};
      return table[c];
    }
    case edge_right: {
      const u32 table[] = {0x0000, 0x1110, 0x2210, 0x3210};
      return table[c];
    }
    case replicate16:
      return c ? 0x3232 : 0x1010;
    default:
      return 0;
  }
}

void permute_bytes(Warp& warp, const Instruction& i) {
  const u32* a = warp.slot<u32>(i.source[0]);
  const u32* b = warp.slot<u32>(i.source[1]);
  const u32* c = warp.slot<u32>(i.source[2]);
  const auto mode = (PermuteMode)i.immediate;
  store_lanes<u32>(warp, i.destination[0], [&](u32 lane) {
    const u32 selector = mode == generic ? c[lane] : permute_selector(mode, c[lane]);
    const u64 both = (u64)b[lane] << 32 | a[lane];
    u32 result = 0;
    for (int k = 0; k < 4; ++k) {
      const u32 choice = selector >> 4 * k & 15;
      u32 byte = (u32)(both >> 8 * (choice & 7)) & 255;
      if (choice & 8) byte = byte & 128 ? 255 : 0;  // its sign, replicated
      result |= byte << 8 * k;
    }
    return result;
  });
}

void decode_permute(Decoding& d) {
  d.take_type();
  const char* const names[] = {"f4e", "b4e", "rc8", "ecl", "ecr", "rc16"};
  for (u32 mode = 0; mode < 6; ++mode)
    if (d.take(names[mode])) d.instruction.immediate = mode + 1;
  simple_operands(d, Type::b32, 3);
  d.instruction.run = permute_bytes;
}

}  // namespace

void add_bit_operations(OpcodeTable& table) {
  table["and"] = decode_logic<Binary<And>, And, 2>;
  table["or"] = decode_logic<Binary<Or>, Or, 2>;
  table["xor"] = decode_logic<Binary<Xor>, Xor, 2>;
  table["not"] = decode_logic<Unary<Not>, Not, 1>;
  table["cnot"] = decode_logic<Unary<LogicalNot>, LogicalNot, 1>;
  table["shl"] = decode_shift<true>;
  table["shr"] = decode_shift<false>;
  table["shf"] = decode_funnel_shift;
  table["bfe"] = decode_extract;
  table["bfi"] = decode_insert;
  table["brev"] = [](Decoding& d) {
    const Type type = d.take_type();
    d.instruction.run = for_integer<Unary<ReverseBits>>(d, type);
    simple_operands(d, type, 1);
  };
  table["popc"] = decode_count<CountOnes>;
  table["clz"] = decode_count<CountLeadingZeros>;
  table["bfind"] = decode_count<FindLeadingBit>;
  table["lop3"] = decode_lop3;
  table["prmt"] = decode_permute;
}

}  // namespace emulator
