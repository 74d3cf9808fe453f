// Rounding modes, .ftz, .sat and .relu, which go with many instructions: a handler around the instruction's own.
#include "half.h"

namespace emulator {
namespace {

constexpr u32 flush_to_zero = 0x8000, denormals_are_zero = 0x0040;

template <class T>
T clamp(T value, bool saturate) {
  const double x = to_double(value);
  if (x != x) return saturate ? from_double<T>(0.0) : from_double<T>(std::nan(""));
  if (x <= 0) return from_double<T>(0.0);
  return saturate && x > 1 ? from_double<T>(1.0) : value;
}

template <class T>
void clamp_lanes(Warp& warp, const Instruction& i) {
  const Slot& slot = i.destination[0];
  const auto* values = warp.slot<Stored<T>>(slot);
  store_lanes<T>(warp, slot, [&](u32 lane) { return clamp(loaded<T>(values[lane]), i.saturate); });
}

template <class T>
void clamp_pairs(Warp& warp, const Instruction& i) {
  const u32* values = warp.slot<u32>(i.destination[0]);
  store_lanes<u32>(warp, i.destination[0], [&](u32 lane) {
    const u32 low = clamp(T{(u16)values[lane]}, i.saturate).bits;
    return low | (u32)clamp(T{(u16)(values[lane] >> 16)}, i.saturate).bits << 16;
  });
}

void run_modified(Warp& warp, const Instruction& i) {
  // MXCSR is set around the handler, which is called through a pointer so that nothing of it moves out.
  const u32 usual = _mm_getcsr();
  _mm_setcsr((usual & ~(u32)_MM_ROUND_MASK) | (u32)i.rounding << 13 |
             (i.flush_denormals ? flush_to_zero | denormals_are_zero : 0));
  i.inner(warp, i);
  _mm_setcsr(usual);
  if (!i.saturate && !i.relu) return;
  switch (i.result) {
    case FloatKind::f32:
      return clamp_lanes<float>(warp, i);
    case FloatKind::f64:
      return clamp_lanes<double>(warp, i);
    case FloatKind::f16:
      return clamp_lanes<Half>(warp, i);
    case FloatKind::bf16:
      return clamp_lanes<BFloat16>(warp, i);
    case FloatKind::f16x2:
      return clamp_pairs<Half>(warp, i);
    case FloatKind::bf16x2:
      return clamp_pairs<BFloat16>(warp, i);
    case FloatKind::none:
      return;
  }
}

FloatKind kind_of(Type type) {
  switch (type) {
    case Type::f32:
    case Type::tf32:
      return FloatKind::f32;
    case Type::f64:
      return FloatKind::f64;
    case Type::f16:
      return FloatKind::f16;
    case Type::bf16:
      return FloatKind::bf16;
    case Type::f16x2:
      return FloatKind::f16x2;
    case Type::bf16x2:
      return FloatKind::bf16x2;
    default:
      return FloatKind::none;
  }
}

}  // namespace

bool is_float(Type type) { return kind_of(type) != FloatKind::none; }

void Decoding::take_float_modifiers() {
  const char* const modes[] = {"rn", "rm", "rp", "rz"};
  for (u8 mode = 0; mode < 4; ++mode)
    if (take(modes[mode])) instruction.rounding = mode;
  instruction.flush_denormals = take("ftz");
  instruction.saturate = take("sat");
  instruction.relu = take("relu");
}

void apply_float_modifiers(Instruction& i, Type result) {
  i.result = kind_of(result);
  if (!i.rounding && !i.flush_denormals && !i.saturate && !i.relu) return;
  i.inner = i.run;
  i.run = run_modified;
}

}  // namespace emulator
