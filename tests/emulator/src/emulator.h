// What the library exports: the CUDA driver functions below under their own names, and the emulator's own.
#pragma once

#include <cstdint>

extern "C" {

enum CUresult {
  CUDA_SUCCESS = 0,
  CUDA_ERROR_INVALID_VALUE = 1,
  CUDA_ERROR_OUT_OF_MEMORY = 2,
  CUDA_ERROR_INVALID_DEVICE = 101,
  CUDA_ERROR_INVALID_CONTEXT = 201,
  CUDA_ERROR_NO_BINARY_FOR_GPU = 209,
  CUDA_ERROR_INVALID_PTX = 218,
  CUDA_ERROR_UNSUPPORTED_PTX_VERSION = 222,
  CUDA_ERROR_INVALID_HANDLE = 400,
  CUDA_ERROR_NOT_FOUND = 500,
  CUDA_ERROR_ILLEGAL_ADDRESS = 700,
  CUDA_ERROR_MISALIGNED_ADDRESS = 716,
  CUDA_ERROR_LAUNCH_FAILED = 719,
};

using CUdevice = int;
using CUcontext = void*;
using CUmodule = void*;
using CUfunction = void*;
using CUstream = void*;

// Sets the emulated devices' compute capability (61, 80, ...) and the seed of the order of execution. The order
// differs from launch to launch, and is the same again after the same seed.
void emulator_configure(int compute_capability, uint64_t seed);

// A region of global memory that a kernel may touch: `rows` rows of `row_bytes`, `row_stride_bytes` apart. What lies
// between the rows does not belong to it. Regions of one launch may be the same; otherwise they must not overlap.
struct EmulatorBuffer {
  const void* data;
  int64_t rows, row_bytes, row_stride_bytes;
  // 0: read. 1: write; undefined before, and every byte must be written. 2: read and write in place. 3: scratch;
  // undefined before, read only where it was written in this launch.
  int access;
  const char* name;
};

// Declares the buffers of this host thread's next cuLaunchKernel. Without it global accesses are not checked.
void emulator_set_buffers(const EmulatorBuffer* buffers, int count);

// What went wrong in this thread's last failing call: the kernel, the violation, where in the PTX and, with -lineinfo,
// in the CUDA source, the block and threads. Empty after a launch that succeeded.
const char* emulator_report(void);

struct EmulatorTraffic {
  // Of memory, 0 unless emulator_count is on.
  int64_t read_bytes, written_bytes;                    // global, 32 bytes for each sector that a warp's access touches
  int64_t read_bytes_distinct, written_bytes_distinct;  // sectors of the whole launch
  int64_t shared_bank_conflicts;  // wavefronts beyond those that an access without conflicts takes
  int64_t shared_accesses;        // of warps

  int64_t instructions;  // of warps
  int64_t fma;           // floating-point fma, mul, add and sub of one lane (a packed one counts as two)
  int64_t mma_products;  // products of tensor core instructions
};

void emulator_count(int on);                      // accesses to memory, for this thread's launches to come
void emulator_traffic(EmulatorTraffic* traffic);  // of this thread's last launch

}  // extern "C"
