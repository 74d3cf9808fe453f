// How a kernel's mistake travels from where it is found to the report.
#pragma once

#include <string>

#include "instruction.h"

namespace emulator {

enum LaunchError { error_illegal_address = 700, error_misaligned_address = 716, error_launch_failed = 719 };

struct Violation {
  LaunchError error;
  std::string text;
  u32 lanes;  // of the warp that ran the instruction; 0 where that says nothing
};

}  // namespace emulator
