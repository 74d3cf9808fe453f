// The pages of large buffers.
#pragma once

#include <cstddef>

namespace ladderseg {

constexpr size_t kHugePage = size_t(2) << 20;

// Asks for huge pages in the part of a fresh buffer that holds whole ones. The pixels of a feature map lie kilobytes
// apart, so with small pages nearly every pixel costs a walk of the page table, and every fresh page an interrupt. This
// is advice only: nothing depends on it.
void advise_huge_pages(void* data, size_t bytes);

// Returns the whole pages within a buffer to the system; their contents are lost, the next write finds fresh pages.
// Returns false, and does nothing, if the system cannot do this.
bool give_back_pages(void* data, size_t bytes);

}  // namespace ladderseg
