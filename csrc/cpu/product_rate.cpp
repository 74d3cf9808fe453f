// Rate of matrix products on operands in cache, the reference of the benchmarks.
#include "gemm.h"
#include "operators.h"
#include "parallel.h"
#include "scratch.h"

namespace ladderseg {
namespace LADDERSEG_ISA {

template <class T>
void product_rate(const ProductRate<T>& args, int threads) {
  using Block = RegisterBlock<T>;
  constexpr int64_t depth = 64;
  ScratchLayout own;
  const Region<T> a = own.add<T>(Block::rows * depth), b = own.add<T>(depth * Block::columns);
  const Region<RealOf<T>> c = own.add<RealOf<T>>(Block::rows * Block::columns);
  char* const scratch = reserve_scratch(threads * own.bytes);

  parallel(threads, [&](int member, int team) {
    char* const base = scratch + member * own.bytes;
    for (int64_t i = 0; i < Block::rows * depth; ++i) put(a.in(base)[i], RealOf<T>(1));
    for (int64_t i = 0; i < depth * Block::columns; ++i) put(b.in(base)[i], RealOf<T>(1));
    for (int64_t i = 0; i < args.repeats; ++i)
      multiply<false>(depth, a.in(base), depth, 1, b.in(base), c.in(base), Block::columns);
    if (member == 0) *args.operations = 2.0 * Block::rows * Block::columns * depth * args.repeats * team;
  });
}

LADDERSEG_INSTANTIATE(product_rate)

}  // namespace LADDERSEG_ISA
}  // namespace ladderseg
