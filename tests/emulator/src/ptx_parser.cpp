// Parses PTX tokens into modules, functions and statements.
#include <algorithm>
#include <cctype>

#include "ptx_lexer.h"
#include "ptx_syntax.h"

namespace emulator {
namespace {

struct TypeName {
  const char* name;
  Type type;
  int bits;
};

constexpr TypeName type_names[] = {
    {"pred", Type::pred, 1},   {"b8", Type::b8, 8},      {"u8", Type::u8, 8},        {"s8", Type::s8, 8},
    {"b16", Type::b16, 16},    {"u16", Type::u16, 16},   {"s16", Type::s16, 16},     {"f16", Type::f16, 16},
    {"bf16", Type::bf16, 16},  {"b32", Type::b32, 32},   {"u32", Type::u32, 32},     {"s32", Type::s32, 32},
    {"f32", Type::f32, 32},    {"tf32", Type::tf32, 32}, {"f16x2", Type::f16x2, 32}, {"bf16x2", Type::bf16x2, 32},
    {"b64", Type::b64, 64},    {"u64", Type::u64, 64},   {"s64", Type::s64, 64},     {"f64", Type::f64, 64},
    {"b128", Type::b128, 128},
};

std::vector<std::string> split_at_dots(const std::string& word) {
  std::vector<std::string> parts(1);
  for (char c : word) {
    if (c == '.')
      parts.emplace_back();
    else
      parts.back() += c;
  }
  return parts;
}

class Parser {
 public:
  explicit Parser(const std::string& ptx) : tokens_(tokens_of(ptx)) {}

  Module module() {
    while (peek().kind != Token::end) module_item();
    return std::move(module_);
  }

 private:
  const Token& peek() const { return tokens_[at_]; }
  Token next() { return tokens_[peek().kind == Token::end ? at_ : at_++]; }
  bool is(const char* text) const { return peek().kind != Token::quoted && peek().text == text; }
  bool take(const char* text) {
    if (!is(text)) return false;
    ++at_;
    return true;
  }
  void expect(const char* text) {
    if (!take(text)) fail(std::string("expected '") + text + "' before '" + peek().text + "'");
  }
  [[noreturn]] void fail(const std::string& text) const { throw PtxError{peek().line, text}; }

  void skip_line() {
    for (const int line = peek().line; peek().kind != Token::end && peek().line == line;) ++at_;
  }

  void skip_braces() {
    expect("{");
    for (int depth = 1; depth > 0;) {
      const Token token = next();
      if (token.kind == Token::end) fail("a brace is not closed");
      if (token.kind == Token::punctuation) depth += token.text == "{" ? 1 : token.text == "}" ? -1 : 0;
    }
  }

  int64_t integer() {
    const bool negative = take("-");
    const int64_t value = (int64_t)number_bits(next().text);
    return negative ? -value : value;
  }

  uint64_t number_bits(std::string word) const {
    const bool literal = word.size() > 2 && word[0] == '0';
    if (literal && (word[1] == 'f' || word[1] == 'F' || word[1] == 'd' || word[1] == 'D'))
      return std::stoull(word.substr(2), nullptr, 16);
    if (!word.empty() && word.back() == 'U') word.pop_back();
    try {
      size_t used = 0;
      const uint64_t value =
          word.compare(0, 2, "0b") == 0 ? std::stoull(word.substr(2), &used, 2) : std::stoull(word, &used, 0);
      return value;
    } catch (const std::exception&) {
      fail("'" + word + "' is not a number");
    }
  }

  void location() {
    location_ = {};
    const int line = peek().line;
    location_.file = (int)integer();
    location_.line = (int)integer();
    while (peek().line == line && peek().kind != Token::end) {
      if (take("inlined_at")) {
        location_.inlined_file = (int)integer();
        location_.inlined_line = (int)integer();
      } else {
        ++at_;
      }
    }
  }

  // .version, .file and the like, which may stand anywhere; false if the next token is no such directive.
  bool common_directive() {
    if (take(".loc")) {
      location();
    } else if (take(".file")) {
      const int number = (int)integer();
      module_.files[number] = peek().text;
      skip_line();
    } else if (take(".section")) {
      next();
      skip_braces();
    } else if (take(".pragma")) {
      while (!take(";")) next();
    } else {
      return false;
    }
    return true;
  }

  void module_item() {
    if (common_directive()) return;
    if (take(".version")) {
      const std::vector<std::string> parts = split_at_dots(next().text);
      module_.version = std::stoi(parts.at(0)) * 10 + std::stoi(parts.at(1));
    } else if (take(".target")) {
      const std::string target = peek().text;
      if (target.compare(0, 3, "sm_") != 0) fail("unknown target " + target);
      module_.target = std::stoi(target.substr(3));
      skip_line();
    } else if (take(".address_size")) {
      if (integer() != 64) fail("only 64-bit addresses are supported");
    } else {
      bool external = false;
      while (is(".visible") || is(".extern") || is(".weak") || is(".common")) external |= next().text == ".extern";
      if (is(".entry") || is(".func"))
        function();
      else
        variable(external, module_.variables);
    }
  }

  static bool space_named(const std::string& name, Space& space) {
    static const std::map<std::string, Space> spaces = {{".global", Space::global},
                                                        {".shared", Space::shared},
                                                        {".local", Space::local},
                                                        {".param", Space::param},
                                                        {".const", Space::constant}};
    const auto found = spaces.find(name);
    if (found == spaces.end()) return false;
    space = found->second;
    return true;
  }

  // ".shared .align 4 .b8 name[512] = {...}", without the end.
  Variable declaration(bool external) {
    Variable variable;
    variable.line = peek().line;
    if (!space_named(next().text, variable.space)) {
      --at_;
      fail("unsupported directive '" + peek().text + "'");
    }
    int64_t vector = 1, alignment = 0;
    bool typed = false;
    while (peek().text[0] == '.') {
      const std::string word = next().text.substr(1);
      if (word == "align") {
        const int64_t value = integer();
        // After the type comes ".ptr .align n", which is about what the pointer points to.
        if (!typed) alignment = value;
      } else if (word == "v2" || word == "v4") {
        vector = word[1] - '0';
      } else if (type_named(word) != Type::none) {
        variable.type = type_named(word);
        typed = true;
      } else if (word != "ptr" && word != "global" && word != "shared" && word != "const" && word != "local") {
        fail("unsupported directive '." + word + "'");
      }
    }
    variable.name = next().text;
    int64_t count = 1;
    while (take("[")) {
      if (is("]"))
        variable.dynamic = true;
      else
        count *= integer();
      expect("]");
    }
    const int64_t element = bytes_of(variable.type) * vector;
    variable.alignment = alignment ? alignment : element;
    if (take("=")) initializer(variable);
    if (variable.dynamic && !variable.initializer.empty()) {
      count = (int64_t)variable.initializer.size();
      variable.dynamic = false;
    }
    variable.size = variable.dynamic ? 0 : count * element;
    if (variable.dynamic && !(external && variable.space == Space::shared)) fail("array of unknown size");
    return variable;
  }

  void initializer(Variable& variable) {
    int depth = 0;
    do {
      while (take("{")) ++depth;
      if (!is("}")) variable.initializer.push_back(operand());
      while (depth > 0 && take("}")) --depth;
    } while (take(","));
  }

  void variable(bool external, std::vector<Variable>& variables) {
    variables.push_back(declaration(external));
    expect(";");
  }

  std::vector<Variable> parameters() {
    std::vector<Variable> result;
    expect("(");
    while (!take(")")) {
      result.push_back(declaration(false));
      take(",");
    }
    return result;
  }

  void function() {
    Function function;
    function.line = peek().line;
    function.entry = next().text == ".entry";
    if (is("(")) function.results = parameters();
    function.name = next().text;
    if (is("(")) function.parameters = parameters();
    while (peek().text[0] == '.') {
      const std::string word = next().text;
      if (word == ".maxntid" || word == ".reqntid") {
        function.maximum_threads = (int)integer();
        while (take(",")) function.maximum_threads *= (int)integer();
      } else if (word == ".minnctapersm" || word == ".maxnreg") {
        integer();  // hints to the compiler
      } else if (word != ".noreturn") {
        fail("unsupported directive '" + word + "'");
      }
    }
    if (!take(";")) body(function);
    Function& known = module_.functions[function.name];
    if (!known.defined) known = std::move(function);
  }

  void body(Function& function) {
    function.defined = true;
    location_ = {};
    function.scopes.emplace_back();
    std::vector<int> open = {0};
    expect("{");
    while (!open.empty()) {
      if (take("{")) {
        Scope scope;
        scope.parent = open.back();
        open.push_back((int)function.scopes.size());
        function.scopes.push_back(std::move(scope));
      } else if (take("}")) {
        open.pop_back();
      } else if (peek().kind == Token::end) {
        fail("function " + function.name + " is not closed");
      } else if (!common_directive()) {
        body_item(function, open.back());
      }
    }
  }

  void body_item(Function& function, int scope_index) {
    Scope& scope = function.scopes[scope_index];
    Space space;
    if (take(".reg")) {
      registers(scope);
    } else if (space_named(peek().text, space)) {
      Variable variable = declaration(false);
      expect(";");
      scope.variables[variable.name] = std::move(variable);
    } else if (tokens_[at_ + 1].text == ":" && tokens_[at_ + 1].kind == Token::punctuation) {
      label(function, scope);
    } else if (peek().text[0] == '.') {
      fail("unsupported directive '" + peek().text + "'");
    } else {
      function.statements.push_back(statement(scope_index));
    }
  }

  void label(Function& function, Scope& scope) {
    const std::string name = next().text;
    expect(":");
    if (take(".branchtargets")) {
      do scope.branch_targets[name].push_back(next().text);
      while (take(","));
      expect(";");
    } else {
      scope.labels[name] = function.statements.size();
    }
  }

  void registers(Scope& scope) {
    const Type type = type_named(next().text.substr(1));
    if (type == Type::none) fail("unsupported register type");
    do {
      const std::string name = next().text;
      if (take("<")) {
        const int64_t count = integer();
        expect(">");
        for (int64_t i = 0; i < count; ++i) scope.registers[name + std::to_string(i)] = type;
      } else {
        scope.registers[name] = type;
      }
    } while (take(","));
    expect(";");
  }

  Statement statement(int scope) {
    Statement statement;
    statement.line = peek().line;
    statement.scope = scope;
    statement.source = location_;
    if (take("@")) {
      statement.guard_negated = take("!");
      statement.guard = next().text;
    }
    std::vector<std::string> parts = split_at_dots(next().text);
    statement.opcode = parts[0];
    statement.modifiers.assign(parts.begin() + 1, parts.end());
    while (!take(";")) {
      statement.operands.push_back(operand());
      if (!is(";")) expect(",");
    }
    return statement;
  }

  std::vector<Operand> operands_until(const char* close) {
    std::vector<Operand> result;
    while (!take(close)) {
      result.push_back(operand());
      take(",");
    }
    return result;
  }

  Operand operand() {
    Operand result;
    if (take("{")) {
      result.kind = Operand::vector;
      result.parts = operands_until("}");
    } else if (take("(")) {
      result.kind = Operand::list;
      result.parts = operands_until(")");
    } else if (take("[")) {
      result = operand();
      if (result.kind == Operand::number) {
        result.offset = (int64_t)result.bits;
        result.text.clear();
      }
      result.kind = Operand::address;
      expect("]");
    } else {
      result = simple_operand();
      if (take("|")) {
        Operand pair;
        pair.kind = Operand::pair;
        pair.parts = {result, simple_operand()};
        return pair;
      }
    }
    return result;
  }

  Operand simple_operand() {
    Operand result;
    result.negated = take("!");
    const bool negative = take("-");
    const Token token = next();
    if (token.kind != Token::word) fail("unexpected '" + token.text + "'");
    if (std::isdigit((unsigned char)token.text[0])) {
      result.kind = Operand::number;
      result.bits = number_bits(token.text);
      if (negative) result.bits = 0 - result.bits;
      return result;
    }
    if (token.text == "generic" && take("(")) {
      result = simple_operand();
      expect(")");
      return result;
    }
    result.text = token.text;
    if (take("+"))
      result.offset = integer();
    else if (is("-"))
      result.offset = integer();
    return result;
  }

  std::vector<Token> tokens_;
  size_t at_ = 0;
  Module module_;
  SourceLocation location_;
};

}  // namespace

Type type_named(const std::string& name) {
  for (const TypeName& entry : type_names)
    if (name == entry.name) return entry.type;
  return Type::none;
}

int bits_of(Type type) {
  for (const TypeName& entry : type_names)
    if (type == entry.type) return entry.bits;
  return 0;
}

Module parse_ptx(const std::string& text) { return Parser(text).module(); }

}  // namespace emulator
