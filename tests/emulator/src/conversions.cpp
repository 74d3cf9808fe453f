// cvt. A conversion goes by way of the widest type of the source's kind, which holds every source value exactly, and
// is rounded or clamped once from there.
#include <limits>

#include "half.h"

namespace emulator {
namespace {

bool is_signed_type(Type type) {
  return type == Type::s8 || type == Type::s16 || type == Type::s32 || type == Type::s64;
}

// Reads integer sources as W, which is s64 or u64.
template <class T, class W>
void widen(const void* registers, u32 register_bits, W* values) {
  if (register_bits == 64 && sizeof(T) < 8) {  // cvt may read the lower part of a wider register
    const u64* source = static_cast<const u64*>(registers);
    for (u32 lane = 0; lane < warp_size; ++lane) values[lane] = (W)(T)source[lane];
  } else {
    const Stored<T>* source = static_cast<const Stored<T>*>(registers);
    for (u32 lane = 0; lane < warp_size; ++lane) values[lane] = (W)(T)source[lane];
  }
}

void read_floats(Warp& warp, const Instruction& i, Type type, double* values) {
  const void* registers = warp.slot<u8>(i.source[0]);
  if (type == Type::f32) {
    const float* source = static_cast<const float*>(registers);
    for (u32 lane = 0; lane < warp_size; ++lane) values[lane] = source[lane];
  } else if (type == Type::f64) {
    std::memcpy(values, registers, sizeof(double) * warp_size);
  } else {
    const u32* source = static_cast<const u32*>(registers);
    for (u32 lane = 0; lane < warp_size; ++lane)
      values[lane] = type == Type::f16 ? to_double(Half{(u16)source[lane]}) : to_double(BFloat16{(u16)source[lane]});
  }
}

template <class W>
void read_integers(Warp& warp, const Instruction& i, Type type, W* values) {
  const void* registers = warp.slot<u8>(i.source[0]);
  const u32 bits = i.source[0].bits;
  switch (type) {
    case Type::s8:
      return widen<s8>(registers, bits, values);
    case Type::s16:
      return widen<s16>(registers, bits, values);
    case Type::s32:
      return widen<s32>(registers, bits, values);
    case Type::s64:
      return widen<s64>(registers, bits, values);
    case Type::u8:
    case Type::b8:
      return widen<u8>(registers, bits, values);
    case Type::u16:
    case Type::b16:
      return widen<u16>(registers, bits, values);
    case Type::u32:
    case Type::b32:
      return widen<u32>(registers, bits, values);
    default:
      return widen<u64>(registers, bits, values);
  }
}

enum IntegerRounding : u32 { no_integer_rounding, to_nearest, to_zero, to_lower, to_upper };

double rounded_to_integer(double value, u32 rounding) {
  switch (rounding) {
    case to_nearest:
      return std::nearbyint(value);
    case to_zero:
      return std::trunc(value);
    case to_lower:
      return std::floor(value);
    case to_upper:
      return std::ceil(value);
    default:
      return value;
  }
}

template <class T>
T clamped(double value) {
  constexpr double low = (double)std::numeric_limits<T>::min(), high = (double)std::numeric_limits<T>::max();
  if (value <= low) return std::numeric_limits<T>::min();
  if (value >= high) return std::numeric_limits<T>::max();
  return (T)value;
}
template <class T, class W>
T clamped(W value) {
  if (value < 0) {
    if constexpr (std::is_signed_v<T>)
      return value < (W)std::numeric_limits<T>::min() ? std::numeric_limits<T>::min() : (T)value;
    return 0;
  }
  return (u64)value > (u64)std::numeric_limits<T>::max() ? std::numeric_limits<T>::max() : (T)value;
}

// NaN becomes 0, or the smallest integer where either side has 64 bits (PTX ISA, cvt).
template <class T>
T from_nan(Type source) {
  const bool wide = source == Type::f64 || sizeof(T) == 8;
  return wide ? (T)((std::make_unsigned_t<T>)1 << (8 * sizeof(T) - 1)) : (T)0;
}

// The result is extended to the whole register, which may be wider than its type.
template <class T, class F>
void store_extended(Warp& warp, const Instruction& i, F f) {
  if (i.destination[0].bits == 64)
    store_lanes<u64>(warp, i.destination[0], [&](u32 lane) { return (u64)(s64)f(lane); });
  else
    store_lanes<u32>(warp, i.destination[0], [&](u32 lane) { return (u32)(s32)f(lane); });
}

template <class T, class W>
void to_integer(Warp& warp, const Instruction& i, const W* values, Type source) {
  store_extended<T>(warp, i, [&](u32 lane) -> T {
    const W value = values[lane];
    if constexpr (std::is_same_v<W, double>) {
      if (value != value) return from_nan<T>(source);
      return clamped<T>(rounded_to_integer(value, i.immediate));
    } else {
      return i.saturate ? clamped<T, W>(value) : (T)value;
    }
  });
}

template <class W>
void to_float(Warp& warp, const Instruction& i, const W* values) {
  const auto value = [&](u32 lane) {
    if constexpr (std::is_same_v<W, double>)
      return i.immediate ? rounded_to_integer(values[lane], i.immediate) : values[lane];
    else
      return values[lane];
  };
  switch (i.type) {
    case Type::f32:
      return store_lanes<float>(warp, i.destination[0], [&](u32 lane) { return (float)value(lane); });
    case Type::f64:
      return store_lanes<double>(warp, i.destination[0], [&](u32 lane) { return (double)value(lane); });
    // An integer that a double would round is out of range of f16, and far above bf16's precision.
    case Type::f16:
      return store_lanes<Half>(warp, i.destination[0],
                               [&](u32 lane) { return from_double<Half>((double)value(lane)); });
    default:
      return store_lanes<BFloat16>(warp, i.destination[0],
                                   [&](u32 lane) { return from_double<BFloat16>((double)value(lane)); });
  }
}

template <class W>
void to_destination(Warp& warp, const Instruction& i, const W* values, Type source) {
  switch (i.type) {
    case Type::s8:
      return to_integer<s8>(warp, i, values, source);
    case Type::s16:
      return to_integer<s16>(warp, i, values, source);
    case Type::s32:
      return to_integer<s32>(warp, i, values, source);
    case Type::s64:
      return to_integer<s64>(warp, i, values, source);
    case Type::u8:
    case Type::b8:
      return to_integer<u8>(warp, i, values, source);
    case Type::u16:
    case Type::b16:
      return to_integer<u16>(warp, i, values, source);
    case Type::u32:
    case Type::b32:
      return to_integer<u32>(warp, i, values, source);
    case Type::u64:
    case Type::b64:
      return to_integer<u64>(warp, i, values, source);
    default:
      return to_float(warp, i, values);
  }
}

// `type` is the destination's, `count` the source's.
void convert(Warp& warp, const Instruction& i) {
  const Type source = (Type)i.count;
  if (is_float(source)) {
    double values[warp_size];
    read_floats(warp, i, source, values);
    to_destination(warp, i, values, source);
  } else if (is_signed_type(source)) {
    s64 values[warp_size];
    read_integers(warp, i, source, values);
    to_destination(warp, i, values, source);
  } else {
    u64 values[warp_size];
    read_integers(warp, i, source, values);
    to_destination(warp, i, values, source);
  }
}

// cvt.rn.f16x2.f32 d, a, b: a goes to the upper half.
template <class T>
void convert_pair(Warp& warp, const Instruction& i) {
  const float* upper = warp.slot<float>(i.source[0]);
  const float* lower = warp.slot<float>(i.source[1]);
  store_lanes<u32>(warp, i.destination[0], [&](u32 lane) {
    return (u32)from_double<T>(upper[lane]).bits << 16 | from_double<T>(lower[lane]).bits;
  });
}

enum Tf32Rounding : u32 { tf32_away, tf32_even, tf32_zero };

// TF32 keeps the sign, the exponent and the first ten bits of the fraction.
void convert_to_tf32(Warp& warp, const Instruction& i) {
  const u32* a = warp.slot<u32>(i.source[0]);
  store_lanes<u32>(warp, i.destination[0], [&](u32 lane) {
    const u32 bits = a[lane];
    if ((bits & 0x7f800000) == 0x7f800000) return bits & 0x7fffff ? 0x7fffffffu : bits;
    if (i.immediate == tf32_zero) return bits & ~0x1fffu;
    return (bits + (i.immediate == tf32_away ? 0x1000u : 0xfffu + (bits >> 13 & 1))) & ~0x1fffu;
  });
}

void decode_tf32(Decoding& d) {
  d.instruction.immediate = d.take("rna") ? tf32_away : d.take("rn") ? tf32_even : tf32_zero;
  if (d.instruction.immediate == tf32_zero && !d.take("rz")) d.unsupported("rounding");
  d.instruction.relu = d.take("relu");
  d.take_type();
  if (d.take_type() != Type::f32) d.unsupported("type");
  d.instruction.run = convert_to_tf32;
  simple_operands(d, Type::f32, 1);
  apply_float_modifiers(d.instruction, Type::tf32);
}

void decode_convert(Decoding& d) {
  for (const std::string& modifier : d.statement.modifiers)
    if (modifier == "tf32") return decode_tf32(d);
  Instruction& i = d.instruction;
  const char* const modes[] = {"rni", "rzi", "rmi", "rpi"};
  for (u32 mode = 0; mode < 4; ++mode)
    if (d.take(modes[mode])) i.immediate = mode + 1;
  d.take_float_modifiers();
  i.type = d.take_type();
  const Type source = d.take_type();
  if (i.type == Type::none || source == Type::none) d.unsupported("type");
  i.count = (u8)source;
  if (i.type == Type::f16x2 || i.type == Type::bf16x2) {
    if (source != Type::f32) d.unsupported("type");
    i.run = i.type == Type::f16x2 ? convert_pair<Half> : convert_pair<BFloat16>;
    simple_operands(d, Type::f32, 2);
  } else {
    i.run = convert;
    if (source == Type::f16x2 || source == Type::bf16x2 || bits_of(source) < 8 || bits_of(source) > 64)
      d.unsupported("type");
    simple_operands(d, source, 1);
  }
  apply_float_modifiers(i, i.type);
}

}  // namespace

void add_conversions(OpcodeTable& table) { table["cvt"] = decode_convert; }

}  // namespace emulator
