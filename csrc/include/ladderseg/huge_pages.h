// Large buffers in large pages: a feature map's pixels lie kilobytes apart, so with small pages nearly every one costs
// a walk of the page table, and every fresh page an interrupt.
#pragma once

#include <cstddef>

namespace ladderseg {

constexpr size_t kHugePage = size_t(2) << 20;

// Ask for huge pages in the part of a fresh buffer that whole ones fit. Advice only: nothing depends on it.
void advise_huge_pages(void* data, size_t bytes);

}  // namespace ladderseg
