// Handlers made of one function for each lane. The loops below are what the compiler vectorises.
#pragma once

#include <cmath>
#include <cstring>
#include <type_traits>

#include "decoder.h"
#include "warp.h"

namespace emulator {

struct Half {
  u16 bits;
};
struct BFloat16 {
  u16 bits;
};
struct Half2 {
  u32 bits;
};
struct BFloat162 {
  u32 bits;
};

// Registers keep values of 8 and 16 bits in 32; the others are kept as they are.
template <class T>
using Stored = std::conditional_t<(sizeof(T) < 4), u32, T>;

template <class T>
inline T loaded(Stored<T> stored) {
  if constexpr (std::is_same_v<T, Half> || std::is_same_v<T, BFloat16>)
    return T{(u16)stored};
  else
    return (T)stored;
}
inline u32 to_store(Half value) { return value.bits; }
inline u32 to_store(BFloat16 value) { return value.bits; }
template <class T>
inline Stored<T> to_store(T value) {
  if constexpr (sizeof(T) < 4)
    return (std::make_unsigned_t<T>)value;
  else
    return value;
}

// destination[lane] = f(lane) for the active lanes; f may be evaluated for the others too.
template <class T, class F>
inline void store_lanes(Warp& warp, const Slot& destination, F f) {
  Stored<T>* d = warp.slot<Stored<T>>(destination);
  const u32 lanes = warp.lanes;
  if (lanes == all_lanes) {
#pragma GCC ivdep
    for (u32 lane = 0; lane < warp_size; ++lane) d[lane] = to_store((T)f(lane));
  } else {
#pragma GCC ivdep
    for (u32 lane = 0; lane < warp_size; ++lane) {
      const Stored<T> value = to_store((T)f(lane));
      d[lane] = lanes >> lane & 1 ? value : d[lane];
    }
  }
}

// The lanes, of all 32, for which f holds.
template <class F>
inline u32 lanes_where(F f) {
  u32 result = 0;
  for (u32 lane = 0; lane < warp_size; ++lane) result |= f(lane) ? 1u << lane : 0;
  return result;
}

inline void set_predicate(Warp& warp, const Slot& slot, u32 value) {
  u32& predicate = warp.predicate(slot);
  predicate = (predicate & ~warp.lanes) | (value & warp.lanes);
}

template <class F>
struct Unary {
  template <class T>
  static void run(Warp& warp, const Instruction& i) {
    const auto* a = warp.slot<Stored<T>>(i.source[0]);
    store_lanes<T>(warp, i.destination[0], [=](u32 lane) { return F::template apply<T>(loaded<T>(a[lane])); });
  }
};

template <class F>
struct Binary {
  template <class T>
  static void run(Warp& warp, const Instruction& i) {
    const auto* a = warp.slot<Stored<T>>(i.source[0]);
    const auto* b = warp.slot<Stored<T>>(i.source[1]);
    store_lanes<T>(warp, i.destination[0],
                   [=](u32 lane) { return F::template apply<T>(loaded<T>(a[lane]), loaded<T>(b[lane])); });
  }
};

template <class F>
struct Ternary {
  template <class T>
  static void run(Warp& warp, const Instruction& i) {
    const auto* a = warp.slot<Stored<T>>(i.source[0]);
    const auto* b = warp.slot<Stored<T>>(i.source[1]);
    const auto* c = warp.slot<Stored<T>>(i.source[2]);
    store_lanes<T>(warp, i.destination[0], [=](u32 lane) {
      return F::template apply<T>(loaded<T>(a[lane]), loaded<T>(b[lane]), loaded<T>(c[lane]));
    });
  }
};

// The handler of a family for a type.
template <class Family>
Handler for_integer(const Decoding& decoding, Type type) {
  switch (type) {
    case Type::u16:
    case Type::b16:
      return &Family::template run<u16>;
    case Type::s16:
      return &Family::template run<s16>;
    case Type::u32:
    case Type::b32:
      return &Family::template run<u32>;
    case Type::s32:
      return &Family::template run<s32>;
    case Type::u64:
    case Type::b64:
      return &Family::template run<u64>;
    case Type::s64:
      return &Family::template run<s64>;
    default:
      decoding.unsupported("type");
  }
}

template <class Family>
Handler for_float(const Decoding& decoding, Type type) {
  switch (type) {
    case Type::f32:
      return &Family::template run<float>;
    case Type::f64:
      return &Family::template run<double>;
    default:
      decoding.unsupported("type");
  }
}

// Sources in order, destination first among the operands: the shape of most instructions.
inline void simple_operands(Decoding& d, Type type, int sources) {
  d.destination(0);
  for (int i = 1; i <= sources; ++i) d.source(i, bits_of(type));
  if ((int)d.operand_count() != sources + 1) d.unsupported("number of operands");
}

}  // namespace emulator
