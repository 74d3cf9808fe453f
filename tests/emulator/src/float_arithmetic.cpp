// Arithmetic on f32, f64, f16, bf16 and the packed pairs f16x2, bf16x2.
//
// Half precision is computed in double, where every single operation is exact or far more precise than the result,
// and rounded once. The approximate instructions (ex2.approx and so on) give the correctly computed value, which is
// within the error that the hardware's have.
#include "half.h"

namespace emulator {
namespace {

struct Add {
  template <class T>
  static T apply(T a, T b) {
    return a + b;
  }
};
struct Subtract {
  template <class T>
  static T apply(T a, T b) {
    return a - b;
  }
};
struct Multiply {
  template <class T>
  static T apply(T a, T b) {
    return a * b;
  }
};
struct Divide {
  template <class T>
  static T apply(T a, T b) {
    return a / b;
  }
};
struct MultiplyAdd {
  static float fused(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
  static double fused(double a, double b, double c) { return __builtin_fma(a, b, c); }
  template <class T>
  static T apply(T a, T b, T c) {
    return fused(a, b, c);
  }
};
// A NaN loses against a number; -0 is less than +0.
template <bool maximum, bool keep_nan>
struct Extreme {
  template <class T>
  static T apply(T a, T b) {
    if (a != a || b != b) return keep_nan || (a != a && b != b) ? (T)NAN : a != a ? b : a;
    if (a == b) return std::signbit(a) == maximum ? b : a;
    return (a > b) == maximum ? a : b;
  }
};
struct Absolute {
  template <class T>
  static T apply(T a) {
    return std::fabs(a);
  }
};
struct Negate {
  template <class T>
  static T apply(T a) {
    return -a;
  }
};
struct Reciprocal {
  template <class T>
  static T apply(T a) {
    return 1 / a;
  }
};
struct SquareRoot {
  template <class T>
  static T apply(T a) {
    return std::sqrt(a);
  }
};
struct ReciprocalSquareRoot {
  template <class T>
  static T apply(T a) {
    return (T)(1 / std::sqrt((double)a));
  }
};
struct Exponential2 {
  template <class T>
  static T apply(T a) {
    return std::exp2(a);
  }
};
struct Logarithm2 {
  template <class T>
  static T apply(T a) {
    return std::log2(a);
  }
};
struct Sine {
  template <class T>
  static T apply(T a) {
    return std::sin(a);
  }
};
struct Cosine {
  template <class T>
  static T apply(T a) {
    return std::cos(a);
  }
};
struct HyperbolicTangent {
  template <class T>
  static T apply(T a) {
    return std::tanh(a);
  }
};
// copysign.f32 d, a, b: b with the sign of a.
struct CopySign {
  template <class T>
  static T apply(T a, T b) {
    return std::copysign(b, a);
  }
};

// F on values of 16 bits.
template <class F>
struct ByDouble {
  template <class T>
  static T apply(T a) {
    return from_double<T>(F::template apply<double>(to_double(a)));
  }
  template <class T>
  static T apply(T a, T b) {
    return from_double<T>(F::template apply<double>(to_double(a), to_double(b)));
  }
  template <class T>
  static T apply(T a, T b, T c) {
    return from_double<T>(F::template apply<double>(to_double(a), to_double(b), to_double(c)));
  }
};

// F on both 16-bit halves of a register.
template <class F, class T, int sources>
void packed(Warp& warp, const Instruction& i) {
  const u32* a = warp.slot<u32>(i.source[0]);
  const u32* b = warp.slot<u32>(i.source[sources > 1 ? 1 : 0]);
  const u32* c = warp.slot<u32>(i.source[sources > 2 ? 2 : 0]);
  const auto half = [&](u32 lane, int shift) -> u32 {
    const T x{(u16)(a[lane] >> shift)}, y{(u16)(b[lane] >> shift)}, z{(u16)(c[lane] >> shift)};
    (void)y, (void)z;
    if constexpr (sources == 1)
      return ByDouble<F>::template apply<T>(x).bits;
    else if constexpr (sources == 2)
      return ByDouble<F>::template apply<T>(x, y).bits;
    else
      return ByDouble<F>::template apply<T>(x, y, z).bits;
  };
  store_lanes<u32>(warp, i.destination[0], [&](u32 lane) { return half(lane, 0) | half(lane, 16) << 16; });
}

template <class F, int sources>
using Family = std::conditional_t<sources == 1, Unary<F>, std::conditional_t<sources == 2, Binary<F>, Ternary<F>>>;

template <class F, int sources>
Handler for_any_float(const Decoding& d, Type type) {
  switch (type) {
    case Type::f32:
      return &Family<F, sources>::template run<float>;
    case Type::f64:
      return &Family<F, sources>::template run<double>;
    case Type::f16:
      return &Family<ByDouble<F>, sources>::template run<Half>;
    case Type::bf16:
      return &Family<ByDouble<F>, sources>::template run<BFloat16>;
    case Type::f16x2:
      return packed<F, Half, sources>;
    case Type::bf16x2:
      return packed<F, BFloat16, sources>;
    default:
      d.unsupported("type");
  }
}

template <class F, int sources>
void decode(Decoding& d) {
  d.take("approx") || d.take("full") || d.take("noftz");
  d.take_float_modifiers();
  const Type type = d.take_type();
  d.instruction.run = for_any_float<F, sources>(d, type);
  if constexpr (std::is_same_v<F, Add> || std::is_same_v<F, Subtract> || std::is_same_v<F, Multiply> ||
                std::is_same_v<F, MultiplyAdd>)
    d.instruction.fma_operations = type == Type::f16x2 || type == Type::bf16x2 ? 2 : 1;
  simple_operands(d, type, sources);
  apply_float_modifiers(d.instruction, type);
}

template <bool maximum>
void decode_extreme(Decoding& d) {
  if (d.take("NaN"))
    decode<Extreme<maximum, true>, 2>(d);
  else
    decode<Extreme<maximum, false>, 2>(d);
}

enum Property { finite, infinite, number, not_a_number, normal, subnormal };

template <class T>
bool has_property(T value, Property property) {
  switch (property) {
    case finite:
      return std::isfinite(value);
    case infinite:
      return std::isinf(value);
    case number:
      return value == value;
    case not_a_number:
      return value != value;
    case normal:
      return std::isnormal(value);
    case subnormal:
      return std::fpclassify(value) == FP_SUBNORMAL;
  }
  return false;
}

struct TestProperty {
  template <class T>
  static void run(Warp& warp, const Instruction& i) {
    const T* a = warp.slot<T>(i.source[0]);
    set_predicate(warp, i.destination[0],
                  lanes_where([&](u32 lane) { return has_property(a[lane], (Property)i.immediate); }));
  }
};

void decode_testp(Decoding& d) {
  const char* const names[] = {"finite", "infinite", "number", "notanumber", "normal", "subnormal"};
  for (u32 property = 0; property < 6; ++property)
    if (d.take(names[property])) d.instruction.immediate = property;
  const Type type = d.take_type();
  d.instruction.run = for_float<TestProperty>(d, type);
  simple_operands(d, type, 1);
}

}  // namespace

void decode_float_arithmetic(Decoding& d) {
  static const OpcodeTable table = {
      {"add", decode<Add, 2>},         {"sub", decode<Subtract, 2>}, {"mul", decode<Multiply, 2>},
      {"mad", decode<MultiplyAdd, 3>}, {"div", decode<Divide, 2>},   {"min", decode_extreme<false>},
      {"max", decode_extreme<true>},   {"abs", decode<Absolute, 1>}, {"neg", decode<Negate, 1>},
  };
  table.at(d.statement.opcode)(d);
}

void add_float_arithmetic(OpcodeTable& table) {
  table["fma"] = decode<MultiplyAdd, 3>;
  table["rcp"] = decode<Reciprocal, 1>;
  table["sqrt"] = decode<SquareRoot, 1>;
  table["rsqrt"] = decode<ReciprocalSquareRoot, 1>;
  table["ex2"] = decode<Exponential2, 1>;
  table["lg2"] = decode<Logarithm2, 1>;
  table["sin"] = decode<Sine, 1>;
  table["cos"] = decode<Cosine, 1>;
  table["tanh"] = decode<HyperbolicTangent, 1>;
  table["copysign"] = decode<CopySign, 2>;
  table["testp"] = decode_testp;
}

}  // namespace emulator
