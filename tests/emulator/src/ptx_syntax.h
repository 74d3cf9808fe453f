// The parsed form of a PTX module: what the parser hands to the decoder. Names are kept as text here; the decoder
// gives them registers and addresses.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

namespace emulator {

enum class Type : uint8_t {
  none,
  pred,
  b8,
  u8,
  s8,
  b16,
  u16,
  s16,
  f16,
  bf16,
  b32,
  u32,
  s32,
  f32,
  tf32,
  f16x2,
  bf16x2,
  b64,
  u64,
  s64,
  f64,
  b128
};

Type type_named(const std::string& name);  // "f32" -> Type::f32; Type::none for a name that is no type
int bits_of(Type type);
inline int bytes_of(Type type) { return (bits_of(type) + 7) / 8; }

enum class Space : uint8_t { generic, global, shared, local, param, constant };

// A place in the CUDA source, from .loc; `line` 0 where the PTX has no line information.
struct SourceLocation {
  int file = 0, line = 0;
  int inlined_file = 0, inlined_line = 0;  // where the function that holds it was inlined
};

struct Operand {
  enum Kind { word, number, vector, address, pair, list };
  Kind kind = word;
  std::string text;            // word: a register, symbol or label; address: its base (empty: absolute)
  uint64_t bits = 0;           // number: its value, a floating-point literal by its bits
  bool negated = false;        // !%p
  int64_t offset = 0;          // word or address: name + offset
  std::vector<Operand> parts;  // {a, b}, a|b, (a, b)
};

struct Statement {
  int line = 0;
  int scope = 0;
  SourceLocation source;
  std::string guard;  // predicate register of @p, empty without
  bool guard_negated = false;
  std::string opcode;                  // "ld"
  std::vector<std::string> modifiers;  // "global", "v4", "f32"
  std::vector<Operand> operands;
};

struct Variable {
  std::string name;
  Space space = Space::global;
  Type type = Type::b8;
  int64_t alignment = 1;
  int64_t size = 0;      // bytes
  bool dynamic = false;  // extern __shared__ x[]
  std::vector<Operand> initializer;
  int line = 0;
};

// Names declared between one pair of braces.
struct Scope {
  int parent = -1;
  std::map<std::string, Type> registers;
  std::map<std::string, Variable> variables;
  std::map<std::string, size_t> labels;  // index of the statement that follows
  std::map<std::string, std::vector<std::string>> branch_targets;
};

struct Function {
  std::string name;
  bool entry = false, defined = false;
  int line = 0;
  std::vector<Variable> parameters, results;
  int maximum_threads = 0;  // .maxntid or .reqntid, 0 without
  std::vector<Scope> scopes;
  std::vector<Statement> statements;
};

struct Module {
  int version = 0;  // 90 for PTX 9.0
  int target = 0;   // 80 for sm_80
  std::map<int, std::string> files;
  std::vector<Variable> variables;
  std::map<std::string, Function> functions;
};

struct PtxError {
  int line;
  std::string text;
};

Module parse_ptx(const std::string& text);  // throws PtxError

}  // namespace emulator
