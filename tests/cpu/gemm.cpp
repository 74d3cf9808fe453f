// Exports gemm.h to test_gemm.py.
#include "gemm.h"

#include <type_traits>

#include "exports.h"

using namespace ladderseg::LADDERSEG_ISA;
using Block = RegisterBlock<Element>;

EXPORT int64_t block_rows() { return Block::rows; }
EXPORT int64_t block_columns() { return Block::columns; }

// multiply, of a whole register block (rows = 0), or of 1 or 8 rows.
EXPORT void multiply_block(bool accumulate, int64_t rows, int64_t depth, const Element* a, int64_t a_row,
                           int64_t a_depth, const Element* panel, Element* c, int64_t c_row) {
  const auto call = [&](auto accumulating) {
    constexpr bool add = decltype(accumulating)::value;
    if (rows == 0) multiply<add>(depth, a, a_row, a_depth, panel, c, c_row);
    if (rows == 1) multiply<add, Element, 1>(depth, a, a_row, a_depth, panel, c, c_row);
    if (rows == 8) multiply<add, Element, 8>(depth, a, a_row, a_depth, panel, c, c_row);
  };
  if (accumulate)
    call(std::true_type{});
  else
    call(std::false_type{});
}

// multiply_elements with A(i, k) = a[offset[k] + i], as the stem convolution gathers it.
EXPORT void multiply_gathered(int64_t depth, const Element* a, const int64_t* offset, const Element* panel, Element* c,
                              int64_t c_row) {
  multiply_elements<false, Block::rows>(depth, [=](int64_t i, int64_t k) { return a[offset[k] + i]; }, panel, c, c_row);
}
