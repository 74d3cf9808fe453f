#include "scratch.h"

#include <cstdlib>
#include <new>

namespace ladderseg {
namespace {

struct Block {
  char* data = nullptr;
  size_t bytes = 0;
  ~Block() { std::free(data); }
};

}  // namespace

char* reserve_scratch(size_t bytes) {
  thread_local Block block;
  if (bytes > block.bytes || block.data == nullptr) {
    std::free(block.data);
    block.bytes = 0;
    const size_t rounded = (bytes / kScratchAlignment + 1) * kScratchAlignment;
    block.data = static_cast<char*>(std::aligned_alloc(kScratchAlignment, rounded));
    if (block.data == nullptr) throw std::bad_alloc();
    block.bytes = rounded;
  }
  return block.data;
}

}  // namespace ladderseg
