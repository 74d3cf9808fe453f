// Decoded instructions: what the scheduler runs. One instruction is executed for all lanes of a warp at once.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "ptx_syntax.h"

namespace emulator {

using u8 = uint8_t;
using u16 = uint16_t;
using u32 = uint32_t;
using u64 = uint64_t;
using s8 = int8_t;
using s16 = int16_t;
using s32 = int32_t;
using s64 = int64_t;

constexpr u32 warp_size = 32;
constexpr u32 all_lanes = ~0u;

struct Warp;
struct Instruction;
using Handler = void (*)(Warp&, const Instruction&);

// Where a register (or a constant, or a special register) lies in a warp's register file. Registers of up to 32 bits
// take 32 u32, those of 64 bits 32 u64, of 128 bits 32 pairs of u64; a predicate is one u32 with a bit for each lane.
struct Slot {
  u32 offset = 0;  // bytes
  u16 id = 0;      // index of its mask of written lanes
  u8 bits = 32;    // 1, 32, 64 or 128
};

// What the scheduler has to do with an instruction.
enum class Flow : u8 {
  compute,  // run the handler, go on with the next
  branch,   // to `target` for the lanes whose guard holds
  branch_indexed,
  call,
  return_,
  exit,
  barrier,     // of the block
  arrive,      // at a barrier without waiting
  collective,  // of the lanes in a mask; the handler runs when they all are there
};

// The reductions of bar.red, in `immediate`.
enum BarrierReduction : u32 { no_reduction, reduce_count, reduce_and, reduce_or };

enum class FloatKind : u8 { none, f32, f64, f16, bf16, f16x2, bf16x2 };

struct Instruction {
  Handler run = nullptr;
  Handler inner = nullptr;  // what `run` wraps, see float_modifiers.cpp
  Flow flow = Flow::compute;
  bool guarded = false, guard_negated = false;
  u8 destinations = 0, sources = 0;  // entries used of the arrays below, `checked` ones first among the sources
  u8 checked = 0;                    // sources that must have been written before
  Slot guard;
  Slot destination[4];
  Slot source[10];
  u32 target = 0;  // of a branch or call

  // Meaning by instruction; the file that decodes it says which it uses.
  s64 offset = 0;
  u32 immediate = 0;
  u8 bytes = 0;  // of one element in memory
  u8 count = 1;  // elements of a vector
  Space space = Space::generic;
  Type type = Type::none;
  bool negated_source = false;  // !%p as the last source
  bool flag = false, flag2 = false, transposed = false;

  // Floating-point modifiers.
  u8 rounding = 0;  // 0 nearest even, 1 down, 2 up, 3 towards zero: the order of MXCSR's field
  bool flush_denormals = false, saturate = false, relu = false;
  FloatKind result = FloatKind::none;

  u8 fma_operations = 0;  // floating-point operations of one lane, for the traffic counters
  u32 mma_products = 0;   // of the whole warp
  u32 statement = 0;      // index of its description in the program
};

// Where an instruction came from, for reports.
struct Origin {
  int line = 0;
  std::string text;
  SourceLocation source;
};

struct SpecialRegister {
  std::string name;
  Slot slot;
};

struct ConstantSlot {
  Slot slot;
  u64 bits;
};

// The copy of parameters at a call, between places of the lane's parameter memory.
struct ParameterCopy {
  u32 from, to, bytes;
};

// An entry function with all device functions that it calls, ready to run.
struct Program {
  std::string name;
  const Module* module = nullptr;
  std::vector<Instruction> code;
  std::vector<Origin> origins;
  std::vector<ConstantSlot> constants;
  std::vector<SpecialRegister> special_registers;
  std::vector<std::vector<u32>> branch_tables;
  std::vector<std::vector<ParameterCopy>> parameter_copies;
  u32 register_bytes = 0, register_count = 0;
  u32 static_shared_bytes = 0;  // dynamic shared memory starts behind it
  u32 shared_alignment = 16;
  u32 local_bytes = 0;
  u32 parameter_bytes = 0;       // of the kernel
  u32 call_parameter_bytes = 0;  // of every call in it, for each lane, behind those of the kernel
  std::vector<Variable> parameters;
  std::vector<u32> parameter_offsets;
  int maximum_threads = 0;
};

}  // namespace emulator
