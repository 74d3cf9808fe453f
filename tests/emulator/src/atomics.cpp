// atom and red: the active lanes one after another.
#include "half.h"

namespace emulator {
namespace {

enum Operation : u32 { op_add, op_min, op_max, op_and, op_or, op_xor, op_exch, op_cas, op_inc, op_dec };
constexpr const char* operation_names[] = {"add", "min", "max", "and", "or", "xor", "exch", "cas", "inc", "dec"};

template <class T>
T number_of(u64 bits) {
  T value;
  std::memcpy(&value, &bits, sizeof(T));
  return value;
}
template <class T>
u64 bits_from(T value) {
  u64 bits = 0;
  std::memcpy(&bits, &value, sizeof(T));
  return bits;
}

template <class T>
u64 combine_numbers(u32 operation, u64 old_bits, u64 operand_bits) {
  const T old = number_of<T>(old_bits), operand = number_of<T>(operand_bits);
  if (operation == op_add) return bits_from<T>((T)(old + operand));
  return bits_from<T>((operation == op_min) == (operand < old) ? operand : old);
}

template <class T>
u64 combine_halves(u32 operation, u64 old_bits, u64 operand_bits) {
  const double old = to_double(T{(u16)old_bits}), operand = to_double(T{(u16)operand_bits});
  return from_double<T>(operation == op_add                        ? old + operand
                        : (operation == op_min) == (operand < old) ? operand
                                                                   : old)
      .bits;
}

template <class T>
u64 combine_pairs(u32 operation, u64 old_bits, u64 operand_bits) {
  return combine_halves<T>(operation, old_bits & 0xffff, operand_bits & 0xffff) |
         combine_halves<T>(operation, old_bits >> 16, operand_bits >> 16) << 16;
}

u64 combine(const Instruction& i, u64 old, u64 operand, u64 replacement) {
  switch (i.immediate) {
    case op_and:
      return old & operand;
    case op_or:
      return old | operand;
    case op_xor:
      return old ^ operand;
    case op_exch:
      return operand;
    case op_cas:
      return old == operand ? replacement : old;
    case op_inc:
      return old >= operand ? 0 : old + 1;
    case op_dec:
      return old == 0 || old > operand ? operand : old - 1;
    default:
      break;
  }
  switch (i.type) {
    case Type::f32:
      return combine_numbers<float>(i.immediate, old, operand);
    case Type::f64:
      return combine_numbers<double>(i.immediate, old, operand);
    case Type::f16:
      return combine_halves<Half>(i.immediate, old, operand);
    case Type::bf16:
      return combine_halves<BFloat16>(i.immediate, old, operand);
    case Type::f16x2:
      return combine_pairs<Half>(i.immediate, old, operand);
    case Type::bf16x2:
      return combine_pairs<BFloat16>(i.immediate, old, operand);
    case Type::s32:
      return combine_numbers<s32>(i.immediate, old, operand);
    case Type::s64:
      return combine_numbers<s64>(i.immediate, old, operand);
    case Type::u64:
      return combine_numbers<u64>(i.immediate, old, operand);
    default:
      return combine_numbers<u32>(i.immediate, old, operand);
  }
}

void run_atomic(Warp& warp, const Instruction& i) {
  Addresses addresses;
  HostPointers at;
  compute_addresses(warp, i.source[0], i.offset, i.space, addresses);
  resolve(warp, i.space, addresses.lane, i.bytes, Access::atomic, at);
  const u64 mask = i.bytes == 8 ? ~0ull : (1ull << 8 * i.bytes) - 1;
  for_each_lane(warp.lanes, [&](u32 lane) {
    u64 old = 0;
    std::memcpy(&old, at.lane[lane], i.bytes);
    const u64 operand = warp.value(i.source[1], lane) & mask;
    const u64 replacement = i.sources > 2 ? warp.value(i.source[2], lane) & mask : 0;
    const u64 result = combine(i, old, operand, replacement);
    std::memcpy(at.lane[lane], &result, i.bytes);
    if (i.destinations) warp.set_value(i.destination[0], lane, old);
  });
}

void decode_atomic(Decoding& d, bool with_result) {
  Instruction& i = d.instruction;
  const char* const ordering[] = {"relaxed", "acquire", "release", "acq_rel", "cta", "gpu", "sys", "noftz"};
  for (const char* name : ordering) d.take(name);
  i.space = d.take_space();
  i.immediate = ~0u;
  for (u32 operation = op_add; operation <= op_dec; ++operation)
    if (d.take(operation_names[operation])) i.immediate = operation;
  if (i.immediate == ~0u) d.unsupported("operation");
  i.type = d.take_type();
  if (i.type == Type::none || bits_of(i.type) > 64) d.unsupported("type");
  i.bytes = (u8)bytes_of(i.type);
  size_t next = 0;
  if (with_result) d.destination(next++);
  d.address(next++);
  d.source(next++, bits_of(i.type));
  if (i.immediate == op_cas) d.source(next++, bits_of(i.type));
  if (next != d.operand_count()) d.unsupported("number of operands");
  i.run = run_atomic;
}

}  // namespace

void add_atomics(OpcodeTable& table) {
  table["atom"] = [](Decoding& d) { decode_atomic(d, true); };
  table["red"] = [](Decoding& d) { decode_atomic(d, false); };
}

}  // namespace emulator
