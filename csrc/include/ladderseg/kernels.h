// The kernels of the core (kernels.def), behind one table per element type and instruction set.
#pragma once

#include "kernels.def"

namespace ladderseg {

// `threads` is the size of the team. The same inputs and team size give the same bits.
template <class Arguments>
using Kernel = void (*)(const Arguments&, int threads);

template <class T>
struct Kernels {
#define KERNEL(name, Arguments) Kernel<Arguments<T>> name;
#include "kernels.def"
};

// One way of compiling the kernels, and whether this processor can run it.
struct InstructionSet {
  const char* name;
  bool (*supported)();
  const Kernels<float>* float32;
  const Kernels<double>* float64;
  const Kernels<BFloat16>* bfloat16;  // nullptr where the processor has no products of such elements
};

// Compiled-in instruction sets, from the most general to the fastest.
const InstructionSet* instruction_sets(int* count);

// The instruction set in use; initially the fastest that this processor supports.
const InstructionSet& instruction_set();

// Chooses an instruction set by name; false if it is not compiled in or not supported here.
bool set_instruction_set(const char* name);

}  // namespace ladderseg
