// The pages of large buffers.
#pragma once

#include <cstddef>

namespace ladderseg {

constexpr size_t kHugePage = size_t(2) << 20;

// Ask for huge pages in the part of a fresh buffer that whole ones fit: a feature map's pixels lie kilobytes apart, so
// with small pages nearly every one costs a walk of the page table, and every fresh page an interrupt. Advice only:
// nothing depends on it.
void advise_huge_pages(void* data, size_t bytes);

// Give the whole pages within a buffer back to the system; their contents are lost, the next write finds fresh ones.
// False where the system cannot: then nothing has happened.
bool give_back_pages(void* data, size_t bytes);

}  // namespace ladderseg
