// Writes where in a kernel's source a mistake happened.
#include "report.h"

namespace emulator {

static std::string source_text(const Module& module, int file, int line) {
  const auto found = module.files.find(file);
  const std::string path = found == module.files.end() ? "file " + std::to_string(file) : found->second;
  return path + ":" + std::to_string(line);
}

std::string place(const Program& program, u32 pc) {
  const Origin& origin = program.origins[program.code[pc].statement];
  std::string text = "PTX line " + std::to_string(origin.line) + " '" + origin.text + "'";
  const SourceLocation& source = origin.source;
  if (source.line) text += " (" + source_text(*program.module, source.file, source.line);
  if (source.inlined_line)
    text += ", inlined at " + source_text(*program.module, source.inlined_file, source.inlined_line);
  if (source.line) text += ")";
  return text;
}

}  // namespace emulator
