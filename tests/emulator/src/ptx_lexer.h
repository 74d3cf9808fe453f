// Splits PTX text into tokens.
#pragma once

#include <string>
#include <vector>

namespace emulator {

struct Token {
  enum Kind { word, quoted, punctuation, end };
  Kind kind;
  std::string text;
  int line;
};

// A word is everything between blanks and punctuation: "ld.global.v4.f32", "%r1", "0f3F800000", "shared::cta" and
// "%tid.x" are one word each.
std::vector<Token> tokens_of(const std::string& ptx);  // throws PtxError

}  // namespace emulator
