// Texts that say where in a kernel something is.
#pragma once

#include <string>

#include "instruction.h"

namespace emulator {

// "PTX line 42 'st.shared.f32' (kernel.cu:17)"
std::string place(const Program& program, u32 pc);

}  // namespace emulator
