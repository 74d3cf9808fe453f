// Runs a launch: the blocks one after another in a random order, the warps of a block and the diverged lanes of a warp
// in turns of random length.
#pragma once

#include <string>

#include "warp.h"

namespace emulator {

// Returns 0, or the LaunchError of the first violation with its description in `report`.
int run_launch(Launch& launch, std::string& report);

}  // namespace emulator
