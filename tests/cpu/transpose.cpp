// Exports transpose.h to test_transpose.py.
#include "transpose.h"

#include "exports.h"

using namespace ladderseg::LADDERSEG_ISA;

EXPORT void transpose(const Element* from, int64_t from_row, int64_t rows, int64_t columns, Element* to,
                      int64_t to_row) {
  transpose_rows(from, from_row, rows, columns, to, to_row);
}
