// Decodes parsed statements: operands, registers, addresses and modifiers.
#include "decoder.h"

#include <algorithm>

#include "memory_spaces.h"

namespace emulator {
namespace {

const OpcodeTable& opcodes() {
  static const OpcodeTable table = [] {
    OpcodeTable t;
    add_integer_arithmetic(t);
    add_bit_operations(t);
    add_float_arithmetic(t);
    add_comparisons(t);
    add_conversions(t);
    add_moves(t);
    add_memory_access(t);
    add_atomics(t);
    add_async_copies(t);
    add_control_flow(t);
    add_collectives(t);
    add_tensor_core(t);
    return t;
  }();
  return table;
}

u32 align(u32 at, u64 alignment) { return (u32)((at + alignment - 1) / alignment * alignment); }

bool is_special_register(const std::string& name) {
  static const char* const prefixes[] = {"%tid.", "%ntid.", "%ctaid.", "%nctaid.", "%cluster"};
  static const char* const names[] = {"%laneid",          "%warpid",      "%nwarpid",     "%smid",
                                      "%nsmid",           "%gridid",      "%lanemask_eq", "%lanemask_lt",
                                      "%lanemask_le",     "%lanemask_gt", "%lanemask_ge", "%dynamic_smem_size",
                                      "%total_smem_size", "WARP_SZ"};
  for (const char* prefix : prefixes)
    if (name.compare(0, std::string(prefix).size(), prefix) == 0) return name.compare(0, 8, "%cluster") != 0;
  return std::find(std::begin(names), std::end(names), name) != std::end(names);
}

std::string text_of(const Statement& statement) {
  std::string text;
  if (!statement.guard.empty()) text = (statement.guard_negated ? "@!" : "@") + statement.guard + " ";
  text += statement.opcode;
  for (const std::string& modifier : statement.modifiers) text += "." + modifier;
  return text;
}

// What a variable's name stands for: an address in its space.
struct PlacedVariable {
  const Variable* variable;
  u64 address;
};

}  // namespace

// Shared by the functions of one program: registers, constants and memory are laid out over all of them. Every
// function has its registers and variables once for each lane, so recursion is not supported.
class ProgramDecoder {
 public:
  ProgramDecoder(const Module& module, const VariableAddresses& addresses, Program& program)
      : module(module), program(program), addresses(addresses) {}

  void decode(const Function& entry);

  Slot new_slot(int bits) {
    Slot slot;
    slot.bits = bits == 1 ? 1 : bits <= 32 ? 32 : bits <= 64 ? 64 : 128;
    // A predicate takes a whole cache line too, so that values stay aligned.
    const u32 size = slot.bits == 1 ? 64 : slot.bits / 8 * warp_size;
    slot.offset = program.register_bytes;
    if (program.register_count == 0xffff) throw PtxError{0, "too many registers"};
    slot.id = (u16)program.register_count++;
    program.register_bytes += size;
    return slot;
  }

  Slot constant(u64 bits, int width) {
    const auto key = std::make_pair(bits, width);
    const auto found = constants_.find(key);
    if (found != constants_.end()) return found->second;
    const Slot slot = constants_[key] = new_slot(width);
    program.constants.push_back({slot, bits});
    return slot;
  }

  // Dynamic shared memory begins where the static ends, which is known when all functions are decoded.
  Slot dynamic_shared_address(u64 addend, int width) {
    const Slot slot = new_slot(width);
    dynamic_addresses_.push_back(program.constants.size());
    program.constants.push_back({slot, addend});
    return slot;
  }

  Slot special(const std::string& name) {
    for (const SpecialRegister& known : program.special_registers)
      if (known.name == name) return known.slot;
    const SpecialRegister added{name, new_slot(name == "%gridid" ? 64 : 32)};
    program.special_registers.push_back(added);
    return added.slot;
  }

  u64 place_variable(const Variable& variable) {
    if (variable.space == Space::shared) {
      program.static_shared_bytes = align(program.static_shared_bytes, variable.alignment);
      const u64 address = program.static_shared_bytes;
      program.static_shared_bytes += (u32)variable.size;
      return address;
    }
    u32& bytes = variable.space == Space::local ? program.local_bytes : program.call_parameter_bytes;
    bytes = align(bytes, variable.alignment);
    const u64 address = bytes;
    bytes += (u32)variable.size;
    return variable.space == Space::local ? address : program.parameter_bytes + address;
  }

  FunctionDecoder& function(const std::string& name, int line);

  const Module& module;
  Program& program;
  const VariableAddresses& addresses;
  std::map<std::string, PlacedVariable> shared_variables;

 private:
  void finish_calls();
  void finish_dynamic_shared();

  friend class Decoding;
  std::map<std::pair<u64, int>, Slot> constants_;
  std::vector<size_t> dynamic_addresses_;
  std::map<std::string, std::unique_ptr<FunctionDecoder>> functions_;
};

class FunctionDecoder {
 public:
  FunctionDecoder(ProgramDecoder& program, const Function& function);
  void decode();

  bool find_register(const std::string& name, int scope, Slot& slot);
  bool find_variable(const std::string& name, int scope, PlacedVariable& placed);
  const Scope* scope_with_label(const std::string& name, int scope) const;

  ProgramDecoder& program;
  const Function& function;
  u32 first_pc = 0;
  Slot return_pc;
  std::vector<PlacedVariable> parameters, results;
  std::vector<std::pair<u32, FunctionDecoder*>> calls;  // by instruction

 private:
  struct Names {
    std::map<std::string, Slot> registers;
    std::map<std::string, PlacedVariable> variables;
  };
  std::vector<Names> names_;
  std::vector<u32> pc_of_statement_;
  // Labels are statement numbers until the function's code is complete.
  std::vector<u32> branches_, tables_;
  friend class Decoding;
};

FunctionDecoder::FunctionDecoder(ProgramDecoder& program, const Function& function)
    : program(program), function(function), names_(function.scopes.size()) {
  return_pc = program.new_slot(32);
  if (function.entry) {
    Program& p = program.program;
    for (size_t i = 0; i < function.parameters.size(); ++i)
      parameters.push_back({&function.parameters[i], p.parameter_offsets[i]});
  } else {
    for (const Variable& v : function.parameters) parameters.push_back({&v, program.place_variable(v)});
    for (const Variable& v : function.results) results.push_back({&v, program.place_variable(v)});
  }
  for (const auto* list : {&parameters, &results})
    for (const PlacedVariable& placed : *list) names_[0].variables[placed.variable->name] = placed;
  for (size_t i = 0; i < function.scopes.size(); ++i)
    for (const auto& [name, variable] : function.scopes[i].variables)
      names_[i].variables[name] = {&variable, program.place_variable(variable)};
}

bool FunctionDecoder::find_register(const std::string& name, int scope, Slot& slot) {
  for (; scope >= 0; scope = function.scopes[scope].parent) {
    const auto& declared = function.scopes[scope].registers;
    const auto found = declared.find(name);
    if (found == declared.end()) continue;
    const auto known = names_[scope].registers.find(name);
    if (known != names_[scope].registers.end())
      slot = known->second;
    else
      slot = names_[scope].registers[name] = program.new_slot(bits_of(found->second));
    return true;
  }
  return false;
}

bool FunctionDecoder::find_variable(const std::string& name, int scope, PlacedVariable& placed) {
  for (; scope >= 0; scope = function.scopes[scope].parent) {
    const auto found = names_[scope].variables.find(name);
    if (found == names_[scope].variables.end()) continue;
    placed = found->second;
    return true;
  }
  const auto shared = program.shared_variables.find(name);
  if (shared != program.shared_variables.end()) {
    placed = shared->second;
    return true;
  }
  for (const Variable& variable : program.module.variables) {
    const auto address = program.addresses.find(name);
    if (variable.name != name || address == program.addresses.end()) continue;
    placed = {&variable, address->second};
    return true;
  }
  return false;
}

const Scope* FunctionDecoder::scope_with_label(const std::string& name, int scope) const {
  for (; scope >= 0; scope = function.scopes[scope].parent)
    if (function.scopes[scope].labels.count(name)) return &function.scopes[scope];
  return nullptr;
}

// Runs in the caller after the return.
static Instruction copy_of_results(const Instruction& call) {
  Instruction copy;
  copy.run = &copy_parameters;
  copy.guarded = call.guarded;
  copy.guard_negated = call.guard_negated;
  copy.guard = call.guard;
  copy.statement = call.statement;
  copy.immediate = call.immediate + 1;
  return copy;
}

void FunctionDecoder::decode() {
  Program& p = program.program;
  first_pc = (u32)p.code.size();
  for (const Statement& statement : function.statements) {
    pc_of_statement_.push_back((u32)p.code.size());
    Instruction instruction;
    instruction.statement = (u32)p.origins.size();
    p.origins.push_back({statement.line, text_of(statement), statement.source});
    if (!statement.guard.empty()) {
      instruction.guarded = true;
      instruction.guard_negated = statement.guard_negated;
      if (!find_register(statement.guard, statement.scope, instruction.guard))
        throw PtxError{statement.line, "unknown register " + statement.guard};
    }
    Decoding decoding(*this, statement, instruction);
    const auto known = opcodes().find(statement.opcode);
    if (known == opcodes().end()) decoding.unsupported("instruction");
    known->second(decoding);
    decoding.expect_all_taken();
    if (instruction.flow == Flow::branch) branches_.push_back((u32)p.code.size());
    if (instruction.flow == Flow::return_ && function.entry) instruction.flow = Flow::exit;
    if (instruction.flow == Flow::return_) instruction.source[0] = return_pc;
    p.code.push_back(instruction);
    if (instruction.flow == Flow::call) p.code.push_back(copy_of_results(instruction));
  }
  // Control that falls off the end returns.
  pc_of_statement_.push_back((u32)p.code.size());
  Instruction last;
  last.flow = function.entry ? Flow::exit : Flow::return_;
  last.source[0] = return_pc;
  last.statement = (u32)p.origins.size();
  p.origins.push_back({function.line, "end of " + function.name, {}});
  p.code.push_back(last);
  for (u32 branch : branches_) p.code[branch].target = pc_of_statement_[p.code[branch].target];
  for (u32 table : tables_)
    for (u32& target : p.branch_tables[table]) target = pc_of_statement_[target];
}

FunctionDecoder& ProgramDecoder::function(const std::string& name, int line) {
  const auto found = module.functions.find(name);
  if (found == module.functions.end() || !found->second.defined)
    throw PtxError{line, "unsupported: call of '" + name + "', which this module does not define"};
  auto& decoder = functions_[name];
  if (!decoder) decoder = std::make_unique<FunctionDecoder>(*this, found->second);
  return *decoder;
}

void ProgramDecoder::decode(const Function& entry) {
  program.parameters = entry.parameters;
  for (const Variable& parameter : entry.parameters) {
    program.parameter_bytes = align(program.parameter_bytes, parameter.alignment);
    program.parameter_offsets.push_back(program.parameter_bytes);
    program.parameter_bytes += (u32)parameter.size;
  }
  program.parameter_bytes = align(program.parameter_bytes, 16);
  for (const Variable& variable : module.variables)
    if (variable.space == Space::shared && !variable.dynamic)
      shared_variables[variable.name] = {&variable, place_variable(variable)};
    else if (variable.dynamic)
      shared_variables[variable.name] = {&variable, 0};

  FunctionDecoder& main = function(entry.name, entry.line);
  main.decode();
  // Functions called from there are decoded behind it, as calls to them turn up.
  std::map<std::string, bool> done{{entry.name, true}};
  for (bool more = true; more;) {
    more = false;
    for (auto& [name, decoder] : functions_) {
      if (done[name]) continue;
      done[name] = more = true;
      decoder->decode();
      break;  // decoding may have added functions
    }
  }
  finish_calls();
  finish_dynamic_shared();
}

void ProgramDecoder::finish_calls() {
  // A function that reaches itself would overwrite its own registers.
  for (const auto& [name, start] : functions_) {
    std::vector<FunctionDecoder*> reached{start.get()};
    for (size_t i = 0; i < reached.size(); ++i) {
      for (const auto& [pc, callee] : reached[i]->calls) {
        if (callee == start.get()) throw PtxError{callee->function.line, "unsupported: recursive function " + name};
        if (std::find(reached.begin(), reached.end(), callee) == reached.end()) reached.push_back(callee);
      }
    }
    for (const auto& [pc, callee] : start->calls) program.code[pc].target = callee->first_pc;
  }
}

void ProgramDecoder::finish_dynamic_shared() {
  for (const auto& [name, placed] : shared_variables)
    if (placed.variable->dynamic)
      program.shared_alignment = std::max(program.shared_alignment, (u32)placed.variable->alignment);
  if (!dynamic_addresses_.empty())
    program.static_shared_bytes = align(program.static_shared_bytes, program.shared_alignment);
  for (size_t index : dynamic_addresses_) program.constants[index].bits += program.static_shared_bytes;
}

bool Decoding::take(const char* modifier) {
  for (size_t i = 0; i < taken_.size(); ++i) {
    if (taken_[i] || statement.modifiers[i] != modifier) continue;
    taken_[i] = true;
    return true;
  }
  return false;
}

Type Decoding::take_type() {
  for (size_t i = 0; i < taken_.size(); ++i) {
    if (taken_[i] || type_named(statement.modifiers[i]) == Type::none) continue;
    taken_[i] = true;
    return type_named(statement.modifiers[i]);
  }
  return Type::none;
}

Space Decoding::take_space() {
  if (take("shared") || take("shared::cta")) return Space::shared;
  if (take("global")) return Space::global;
  if (take("local")) return Space::local;
  if (take("const")) return Space::constant;
  if (take("param") || take("param::entry") || take("param::func")) return Space::param;
  return Space::generic;
}

void Decoding::expect_all_taken() const {
  for (size_t i = 0; i < taken_.size(); ++i)
    if (!taken_[i]) unsupported("modifier ." + statement.modifiers[i]);
}

const Operand& Decoding::operand(size_t index) const {
  if (index >= statement.operands.size()) unsupported("number of operands");
  return statement.operands[index];
}

Slot Decoding::constant(u64 bits, int width) {
  if (width == 1)
    bits = bits ? all_lanes : 0;
  else if (width < 64)
    bits &= (1ull << width) - 1;
  return function_.program.constant(bits, width);
}

Slot Decoding::source(const Operand& operand, int bits, bool checked) {
  Slot slot;
  PlacedVariable placed;
  if (operand.kind == Operand::number) {
    slot = constant(operand.bits, bits);
  } else if (operand.kind != Operand::word && operand.kind != Operand::address) {
    unsupported("operand");
  } else if (function_.find_register(operand.text, statement.scope, slot)) {
    // nothing more to find out
  } else if (is_special_register(operand.text)) {
    slot = function_.program.special(operand.text);
  } else if (function_.find_variable(operand.text, statement.scope, placed)) {
    const u64 value = placed.address + (operand.kind == Operand::word ? operand.offset : 0);
    slot = placed.variable->dynamic ? function_.program.dynamic_shared_address(value, bits) : constant(value, bits);
  } else {
    unsupported("operand '" + operand.text + "'");
  }
  if (instruction.sources == 10) unsupported("number of operands");
  // Constants and special registers are checked too: their masks of written lanes are full.
  if (checked && instruction.checked++ != instruction.sources) unsupported("order of operands");
  instruction.source[instruction.sources++] = slot;
  return slot;
}

void Decoding::predicate_source(size_t index) {
  source(index, 1);
  instruction.negated_source = operand(index).negated;
}

void Decoding::destination(const Operand& operand) {
  Slot slot;
  if (operand.text == "_")
    slot = function_.program.new_slot(64);  // a value that nobody reads
  else if (operand.kind != Operand::word || !function_.find_register(operand.text, statement.scope, slot))
    unsupported("destination '" + operand.text + "'");
  instruction.destination[instruction.destinations++] = slot;
}

void Decoding::address(size_t index) {
  const Operand& base = operand(index);
  if (base.kind != Operand::address) unsupported("operand, expected an address");
  instruction.offset = base.offset;
  if (base.text.empty()) {
    Operand zero;
    zero.kind = Operand::number;
    source(zero, 64);
  } else {
    source(base, 64);
  }
}

u64 Decoding::number(size_t index) const {
  if (operand(index).kind != Operand::number) unsupported("operand, expected a number");
  return operand(index).bits;
}

u32 Decoding::label(const std::string& name) const {
  const Scope* scope = function_.scope_with_label(name, statement.scope);
  if (!scope) unsupported("label '" + name + "'");
  return (u32)scope->labels.at(name);
}

std::vector<u32> Decoding::branch_targets(const std::string& name) const {
  for (int scope = statement.scope; scope >= 0; scope = function_.function.scopes[scope].parent) {
    const auto& known = function_.function.scopes[scope].branch_targets;
    const auto found = known.find(name);
    if (found == known.end()) continue;
    std::vector<u32> targets;
    for (const std::string& target : found->second) targets.push_back(label(target));
    return targets;
  }
  unsupported("branch targets '" + name + "'");
}

void Decoding::call() {
  const std::vector<Operand>& operands = statement.operands;
  size_t next = 0;
  std::vector<Operand> results, arguments;
  if (operands.at(0).kind == Operand::list) results = operands[next++].parts;
  const Operand& callee_name = operand(next++);
  if (next < operands.size() && operands[next].kind == Operand::list) arguments = operands[next++].parts;
  if (next < operands.size()) unsupported("indirect call");
  FunctionDecoder& callee = function_.program.function(callee_name.text, statement.line);
  if (callee.parameters.size() != arguments.size() || callee.results.size() != results.size())
    unsupported("number of arguments");

  const auto place = [&](const Operand& o) {
    PlacedVariable placed;
    if (!function_.find_variable(o.text, statement.scope, placed)) unsupported("argument '" + o.text + "'");
    return placed;
  };
  std::vector<ParameterCopy> in, out;
  for (size_t i = 0; i < arguments.size(); ++i)
    in.push_back({(u32)place(arguments[i]).address, (u32)callee.parameters[i].address,
                  (u32)callee.parameters[i].variable->size});
  for (size_t i = 0; i < results.size(); ++i)
    out.push_back(
        {(u32)callee.results[i].address, (u32)place(results[i]).address, (u32)callee.results[i].variable->size});
  Program& program = function_.program.program;
  instruction.immediate = (u32)program.parameter_copies.size();
  program.parameter_copies.push_back(in);
  program.parameter_copies.push_back(out);
  instruction.flow = Flow::call;
  instruction.destination[instruction.destinations++] = callee.return_pc;
  function_.calls.push_back({(u32)program.code.size(), &callee});
}

u32 Decoding::branch_table(const std::string& name) {
  std::vector<std::vector<u32>>& tables = function_.program.program.branch_tables;
  tables.push_back(branch_targets(name));
  function_.tables_.push_back((u32)tables.size() - 1);
  return (u32)tables.size() - 1;
}

void Decoding::unsupported(const std::string& what) const {
  throw PtxError{statement.line, "unsupported " + what + " in '" + text_of(statement) + "'"};
}

std::unique_ptr<Program> decode_entry(const Module& module, const std::string& entry,
                                      const VariableAddresses& addresses) {
  auto program = std::make_unique<Program>();
  const Function& function = module.functions.at(entry);
  program->name = entry;
  program->module = &module;
  program->maximum_threads = function.maximum_threads;
  ProgramDecoder(module, addresses, *program).decode(function);
  return program;
}

}  // namespace emulator
