// Turns parsed statements into instructions. Each file of instructions adds its opcodes to one table; a statement is
// refused, with its line, when its opcode is not in the table or one of its modifiers was not understood.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "instruction.h"

namespace emulator {

class FunctionDecoder;

// One statement being decoded: modifiers are taken one by one, operands by index.
class Decoding {
 public:
  Decoding(FunctionDecoder& function, const Statement& statement, Instruction& instruction)
      : statement(statement), instruction(instruction), function_(function), taken_(statement.modifiers.size()) {}

  const Statement& statement;
  Instruction& instruction;

  bool take(const char* modifier);  // true once for each time the modifier is there
  Type take_type();                 // the first type not yet taken
  Space take_space();               // generic without one
  void take_float_modifiers();      // .rn .ftz .sat and the like, see float_modifiers.cpp
  void expect_all_taken() const;

  size_t operand_count() const { return statement.operands.size(); }
  const Operand& operand(size_t index) const;
  // Adds a source or destination; a number is a constant of `bits`.
  Slot source(const Operand& operand, int bits, bool checked = true);
  Slot source(size_t index, int bits, bool checked = true) { return source(operand(index), bits, checked); }
  void predicate_source(size_t index);  // as the last source, possibly negated
  void destination(const Operand& operand);
  void destination(size_t index) { destination(operand(index)); }
  void address(size_t index);  // source and instruction.offset
  Slot constant(u64 bits, int width);
  // The value of a number operand.
  u64 number(size_t index) const;
  u32 label(const std::string& name) const;   // index of the statement, see FunctionDecoder
  u32 branch_table(const std::string& name);  // index in Program::branch_tables
  void call();

  [[noreturn]] void unsupported(const std::string& what) const;

 private:
  std::vector<u32> branch_targets(const std::string& name) const;

  FunctionDecoder& function_;
  std::vector<bool> taken_;
};

using Decode = void (*)(Decoding&);
using OpcodeTable = std::map<std::string, Decode>;

void add_integer_arithmetic(OpcodeTable&);
void add_bit_operations(OpcodeTable&);
void add_float_arithmetic(OpcodeTable&);
void add_comparisons(OpcodeTable&);
void add_conversions(OpcodeTable&);
void add_moves(OpcodeTable&);
void add_memory_access(OpcodeTable&);
void add_atomics(OpcodeTable&);
void add_async_copies(OpcodeTable&);
void add_control_flow(OpcodeTable&);
void add_collectives(OpcodeTable&);
void add_tensor_core(OpcodeTable&);

// Opcodes that mean different things for integers and floats are told apart by the type.
bool is_float(Type type);
void decode_float_arithmetic(Decoding&);
// Wraps the handler for what take_float_modifiers found; `result` is the type that .sat and .relu act on.
void apply_float_modifiers(Instruction& instruction, Type result);

void copy_parameters(Warp&, const Instruction&);  // of a call or of its results

// Addresses of module variables by name.
using VariableAddresses = std::map<std::string, u64>;

// Throws PtxError for what is not supported.
std::unique_ptr<Program> decode_entry(const Module& module, const std::string& entry,
                                      const VariableAddresses& addresses);

}  // namespace emulator
