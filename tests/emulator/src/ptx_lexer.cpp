// Splits PTX text into tokens.
#include "ptx_lexer.h"

#include <cctype>

#include "ptx_syntax.h"

namespace emulator {

static bool in_word(char c) { return std::isalnum((unsigned char)c) || c == '_' || c == '$' || c == '%' || c == '.'; }

std::vector<Token> tokens_of(const std::string& ptx) {
  std::vector<Token> tokens;
  int line = 1;
  size_t at = 0;
  const auto starts = [&](const char* what) { return ptx.compare(at, 2, what) == 0; };
  while (at < ptx.size()) {
    const char c = ptx[at];
    if (c == '\n') {
      ++line;
      ++at;
    } else if (std::isspace((unsigned char)c)) {
      ++at;
    } else if (starts("//")) {
      while (at < ptx.size() && ptx[at] != '\n') ++at;
    } else if (starts("/*")) {
      for (at += 2; at < ptx.size() && !starts("*/"); ++at) line += ptx[at] == '\n';
      at += 2;
    } else if (c == '"') {
      const size_t close = ptx.find('"', at + 1);
      if (close == std::string::npos) throw PtxError{line, "a string is not closed"};
      tokens.push_back({Token::quoted, ptx.substr(at + 1, close - at - 1), line});
      at = close + 1;
    } else if (in_word(c)) {
      const size_t first = at;
      while (at < ptx.size() && (in_word(ptx[at]) || starts("::"))) at += starts("::") ? 2 : 1;
      tokens.push_back({Token::word, ptx.substr(first, at - first), line});
    } else {
      tokens.push_back({Token::punctuation, std::string(1, c), line});
      ++at;
    }
  }
  tokens.push_back({Token::end, "", line});
  return tokens;
}

}  // namespace emulator
