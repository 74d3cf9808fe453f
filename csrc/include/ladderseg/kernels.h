// The kernels of the core (kernels.def), behind one table per element type and instruction set.
#pragma once

#include "affine_correction.h"
#include "batch_norm.h"
#include "bn_relu.h"
#include "bn_relu_avgpool2.h"
#include "bn_relu_conv1x1.h"
#include "bn_relu_conv3x3.h"
#include "bn_relu_maxpool.h"
#include "channel_statistics.h"
#include "product_rate.h"
#include "stem.h"
#include "upsample.h"
#include "upsample_argmax.h"
#include "upsample_cross_entropy.h"
#include "upsample_project_concat.h"

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
};

// Compiled-in instruction sets, from the most general to the fastest.
const InstructionSet* instruction_sets(int* count);

// The one in use: at first the fastest that this processor supports.
const InstructionSet& instruction_set();

// Choose by name; false if it is not compiled in or not supported here.
bool set_instruction_set(const char* name);

}  // namespace ladderseg
