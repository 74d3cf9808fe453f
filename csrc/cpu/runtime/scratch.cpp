// The block of working memory that each thread keeps between calls.
#include "../scratch.h"

#include <cstdlib>
#include <new>

#include "ladderseg/pages.h"

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
    const size_t alignment = bytes < kHugePage / 2 ? kScratchAlignment : kHugePage;
    const size_t rounded = (bytes / alignment + 1) * alignment;
    block.data = static_cast<char*>(std::aligned_alloc(alignment, rounded));
    if (block.data == nullptr) throw std::bad_alloc();
    advise_huge_pages(block.data, rounded);
    block.bytes = rounded;
  }
  return block.data;
}

}  // namespace ladderseg
