// The part of the CUDA driver API that launching needs, opened at run time: nothing of CUDA is needed to build the
// core, and nothing is opened before the first launch.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace ladderseg::cuda {

using Result = int;      // CUresult: 0 is success
using Ordinal = int;     // CUdevice
using Context = void*;   // CUcontext
using Module = void*;    // CUmodule
using Function = void*;  // CUfunction
using Stream = void*;    // CUstream, which is the runtime API's and torch's stream too

enum class Attribute : int {  // CUdevice_attribute
  multiprocessors = 16,
  capability_major = 75,
  capability_minor = 76,
};

// A piece of memory that a launch may touch: `rows` rows of `row_bytes`, `row_stride` bytes apart.
struct Buffer {
  const void* data;
  int64_t rows, row_bytes, row_stride;
  int access;  // Access in launch.h
  const char* name;
};

struct Driver {
  Result (*init)(unsigned flags);
  Result (*driver_version)(int* version);
  Result (*device_get)(Ordinal* device, int number);
  Result (*device_attribute)(int* value, int attribute, Ordinal device);
  Result (*primary_context_retain)(Context* context, Ordinal device);
  Result (*context_current)(Context* context);
  Result (*context_push)(Context context);
  Result (*context_pop)(Context* context);
  Result (*module_load)(Module* module, const void* image);
  Result (*module_function)(Function* function, Module module, const char* name);
  Result (*launch)(Function function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,
                   unsigned block_y, unsigned block_z, unsigned shared_bytes, Stream stream, void** arguments,
                   void** extra);
  Result (*error_name)(Result result, const char** name);
  Result (*error_string)(Result result, const char** text);

  // nullptr in drivers older than CUDA 12.4.
  Result (*module_function_count)(unsigned* count, Module module);
  Result (*module_functions)(Function* functions, unsigned count, Module module);
  Result (*function_name)(const char** name, Function function);
  Result (*function_load)(Function function);

  // Extra functions of a driver that checks the kernels; nullptr in CUDA's own.
  void (*set_buffers)(const Buffer* buffers, int count);  // of the next launch
  const char* (*report)();                                // errors of the last launch
};

// The library at `path`; it is initialised.
// Throws std::runtime_error if it cannot be opened, lacks a function, or finds no device.
const Driver& open_driver(const std::string& path);

// Throws std::runtime_error, with `doing` in its message, unless `result` is success.
void check(const Driver& driver, Result result, const std::string& doing);

}  // namespace ladderseg::cuda
