// Barriers of the block: bar.sync, bar.red, bar.arrive.
#pragma once

#include "warp.h"

namespace emulator {

// The lanes of a warp come to a barrier instruction; those that wait are added to the warp's groups.
void arrive_at_barrier(Block& block, Warp& warp, const Instruction& i, u32 pc, u32 lanes);

// No lane of the block can run. Opens the barrier at which all of them wait; false if all have exited. Throws a
// Violation if some wait where the others will never come.
bool release_barrier(Block& block);

}  // namespace emulator
