// The instruction sets that were compiled in, and the choice among them at run time.

#include <atomic>
#include <cstring>

#include "../kernel_tables.h"
#include "ladderseg/kernels.h"

namespace ladderseg {
namespace {

bool always() { return true; }

#if defined(LADDERSEG_X86)
bool has_avx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }
bool has_avx512() {
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
}
#if defined(LADDERSEG_BFLOAT16)
bool has_avx512_bf16() { return has_avx512() && __builtin_cpu_supports("avx512bf16"); }
#endif
#endif

const InstructionSet kInstructionSets[] = {
    {"baseline", always, &baseline::kernels_float32, &baseline::kernels_float64, nullptr},
#if defined(LADDERSEG_X86)
    {"avx2", has_avx2, &avx2::kernels_float32, &avx2::kernels_float64, nullptr},
    {"avx512", has_avx512, &avx512::kernels_float32, &avx512::kernels_float64, nullptr},
#if defined(LADDERSEG_BFLOAT16)
    {"avx512_bf16", has_avx512_bf16, &avx512::kernels_float32, &avx512::kernels_float64,
     &avx512_bf16::kernels_bfloat16},
#endif
#endif
};
constexpr int kCount = sizeof(kInstructionSets) / sizeof(kInstructionSets[0]);

const InstructionSet* fastest() {
  for (int i = kCount - 1; i > 0; --i)
    if (kInstructionSets[i].supported()) return &kInstructionSets[i];
  return &kInstructionSets[0];
}

std::atomic<const InstructionSet*>& chosen() {
  static std::atomic<const InstructionSet*> value{fastest()};
  return value;
}

}  // namespace

const InstructionSet* instruction_sets(int* count) {
  *count = kCount;
  return kInstructionSets;
}

const InstructionSet& instruction_set() { return *chosen().load(); }

bool set_instruction_set(const char* name) {
  for (const InstructionSet& candidate : kInstructionSets) {
    if (std::strcmp(candidate.name, name) == 0 && candidate.supported()) {
      chosen().store(&candidate);
      return true;
    }
  }
  return false;
}

}  // namespace ladderseg
