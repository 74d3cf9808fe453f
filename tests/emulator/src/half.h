// float16 and bfloat16 values: exact conversion from them, correctly rounded conversion to them.
#pragma once

#include <immintrin.h>

#include "lanes.h"

namespace emulator {

inline float bits_to_float(u32 bits) {
  float value;
  std::memcpy(&value, &bits, 4);
  return value;
}
inline u32 float_to_bits(float value) {
  u32 bits;
  std::memcpy(&bits, &value, 4);
  return bits;
}

inline double to_double(Half value) { return _cvtsh_ss(value.bits); }
inline double to_double(BFloat16 value) { return bits_to_float((u32)value.bits << 16); }
inline double to_double(float value) { return value; }
inline double to_double(double value) { return value; }

// The float next to an inexact value whose last bit is one: rounding it again, to fewer bits, gives what rounding the
// double at once would give (Boldo and Melquiond, "When double rounding is odd").
inline float round_to_odd(double value) {
  float nearest = (float)value;
  if ((double)nearest == value || nearest != nearest) return nearest;
  u32 bits = float_to_bits(nearest);
  if (std::fabs((double)nearest) > std::fabs(value)) --bits;  // towards zero; infinity becomes the largest float
  return bits_to_float(bits | 1);
}

// Rounds as MXCSR says at the time.
inline Half float_to_half(float value) {
  if (value != value) return Half{0x7fff};
  return Half{(u16)_cvtss_sh(value, _MM_FROUND_CUR_DIRECTION)};
}

inline BFloat16 float_to_bfloat16(float value) {
  if (value != value) return BFloat16{0x7fff};
  const u32 bits = float_to_bits(value), rest = bits & 0xffff;
  u32 upper = bits >> 16;
  const bool negative = bits >> 31;
  switch (_MM_GET_ROUNDING_MODE()) {
    case _MM_ROUND_NEAREST:
      upper += rest > 0x8000 || (rest == 0x8000 && (upper & 1));
      break;
    case _MM_ROUND_DOWN:
      upper += rest && negative;
      break;
    case _MM_ROUND_UP:
      upper += rest && !negative;
      break;
    default:
      break;
  }
  return BFloat16{(u16)upper};
}

template <class T>
T from_double(double value);
template <>
inline Half from_double<Half>(double value) {
  return float_to_half(round_to_odd(value));
}
template <>
inline BFloat16 from_double<BFloat16>(double value) {
  return float_to_bfloat16(round_to_odd(value));
}
template <>
inline float from_double<float>(double value) {
  return (float)value;
}
template <>
inline double from_double<double>(double value) {
  return value;
}

}  // namespace emulator
