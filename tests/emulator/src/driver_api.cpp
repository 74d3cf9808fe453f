// The part of the CUDA driver API that the emulator offers, with its prototypes and error codes, and the emulator's
// own functions (see emulator.h). Everything runs at the launch; streams have nothing to wait for.
#include <algorithm>
#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "decoder.h"
#include "emulator.h"
#include "scheduler.h"

using namespace emulator;

namespace {

constexpr int driver_version = 13020, newest_ptx = 92;
constexpr int device_count = 2;
constexpr u32 usual_shared_bytes = 48 * 1024;

struct Configuration {
  std::atomic<int> compute_capability{80};
  std::atomic<u64> seed{0};
  std::atomic<u64> launches{0};
};
Configuration configuration;

u32 optional_shared_bytes() {
  switch (configuration.compute_capability) {
    case 70:
    case 72:
      return 96 * 1024;
    case 75:
      return 64 * 1024;
    case 80:
    case 87:
      return 163 * 1024;
    case 86:
    case 89:
      return 99 * 1024;
    default:
      return configuration.compute_capability >= 90 ? 227 * 1024 : usual_shared_bytes;
  }
}

struct Context {
  int device = 0;
  int retained = 0;
};

struct LoadedModule;

struct LoadedFunction {
  LoadedModule* module = nullptr;
  std::unique_ptr<Program> program;
  u32 dynamic_shared_limit = 0;
};

struct LoadedModule {
  Context* context = nullptr;
  Module parsed;
  VariableAddresses addresses;
  std::vector<std::unique_ptr<u64[]>> storage;
  std::vector<std::pair<u64, u64>> extents;
  std::map<std::string, LoadedFunction> functions;
};

Context contexts[device_count];
std::mutex modules_mutex;
std::map<LoadedModule*, std::unique_ptr<LoadedModule>> modules;

// What belongs to one host thread.
struct ThreadState {
  std::vector<Context*> stack;
  bool buffers_declared = false;
  std::vector<Buffer> buffers;
  std::string report;
  TrafficCounts traffic;
  bool counts_memory = false;
};
thread_local ThreadState thread_state;

Context* current_context() { return thread_state.stack.empty() ? nullptr : thread_state.stack.back(); }

CUresult fail(CUresult error, const std::string& text) {
  thread_state.report = text;
  return error;
}

void initialise(const Variable& variable, const VariableAddresses& addresses, u8* memory, u64 bytes) {
  const u64 element = (u64)bytes_of(variable.type);
  u64 at = 0;
  for (const Operand& value : variable.initializer) {
    u64 bits = value.bits;
    if (value.kind == Operand::word) {
      const auto found = addresses.find(value.text);
      if (found == addresses.end()) throw PtxError{variable.line, "unsupported initial value '" + value.text + "'"};
      bits = found->second + (u64)value.offset;
    }
    if (at + element > bytes) throw PtxError{variable.line, "too many initial values for " + variable.name};
    std::memcpy(memory + at, &bits, element);
    at += element;
  }
}

void place_variables(LoadedModule& module) {
  for (const Variable& variable : module.parsed.variables) {
    if (variable.space != Space::global && variable.space != Space::constant) continue;
    const u64 alignment = std::max<u64>((u64)variable.alignment, 8);
    module.storage.emplace_back(new u64[((u64)variable.size + 2 * alignment) / 8]());
    const u64 first = reinterpret_cast<u64>(module.storage.back().get());
    const u64 address = (first + alignment - 1) / alignment * alignment;
    module.addresses[variable.name] = address;
    module.extents.push_back({address, (u64)variable.size});
  }
  for (const Variable& variable : module.parsed.variables) {
    const auto found = module.addresses.find(variable.name);
    if (found != module.addresses.end())
      initialise(variable, module.addresses, reinterpret_cast<u8*>(found->second), (u64)variable.size);
  }
}

bool overlap(const Buffer& a, const Buffer& b) {
  if (a.span() == 0 || b.span() == 0) return false;
  const u64 a_end = a.address + a.span(), b_end = b.address + b.span();
  if (a.address >= b_end || b.address >= a_end) return false;
  // Channel ranges of one feature map interleave: they are apart if they are so within a row.
  if (a.row_stride != b.row_stride || a.rows <= 1 || b.rows <= 1) return true;
  const u64 stride = a.row_stride;
  const u64 shift = (b.address % stride + stride - a.address % stride) % stride;
  return shift < a.row_bytes || shift + b.row_bytes > stride;
}

// The declared buffers, those that are the same region made one.
bool merged_buffers(std::vector<Buffer>& declared, std::vector<Buffer>& merged) {
  for (Buffer& buffer : declared) {
    const auto same = std::find_if(merged.begin(), merged.end(), [&](const Buffer& other) {
      return other.address == buffer.address && other.rows == buffer.rows && other.row_bytes == buffer.row_bytes &&
             (other.row_stride == buffer.row_stride || buffer.rows <= 1);
    });
    if (same != merged.end()) {
      same->name += " = " + buffer.name;
      if (same->rights != buffer.rights) same->rights = Buffer::read_write;
      continue;
    }
    for (const Buffer& other : merged)
      if (overlap(buffer, other)) {
        thread_state.report = "buffers " + other.name + " and " + buffer.name + " overlap";
        return false;
      }
    merged.push_back(std::move(buffer));
  }
  declared.clear();
  return true;
}

CUresult launch_kernel(LoadedFunction& function, const Dim3& grid, const Dim3& block, u32 shared, void** arguments) {
  const Program& program = *function.program;
  Launch launch;
  launch.program = &program;
  launch.grid = grid;
  launch.block_shape = block;
  launch.dynamic_shared_bytes = shared;
  launch.parameters.resize(program.parameter_bytes);
  for (size_t p = 0; p < program.parameters.size(); ++p) {
    if (!arguments || !arguments[p])
      return fail(CUDA_ERROR_INVALID_VALUE, "kernel argument " + std::to_string(p) + " is missing");
    std::memcpy(launch.parameters.data() + program.parameter_offsets[p], arguments[p],
                (size_t)program.parameters[p].size);
  }
  launch.global.checked = thread_state.buffers_declared;
  if (!merged_buffers(thread_state.buffers, launch.global.buffers)) return CUDA_ERROR_INVALID_VALUE;
  launch.global.prepare();
  launch.global.variables = function.module->extents;
  launch.traffic.counts_memory = thread_state.counts_memory;
  launch.random_state = configuration.seed + 0x632BE59BD9B4E019ull * ++configuration.launches;
  const int error = run_launch(launch, thread_state.report);
  thread_state.traffic = launch.traffic.counts;
  return (CUresult)error;
}

// PTX has any number of registers. What a compiler would make of them is at most what the largest block may have.
int registers_per_thread(const Program& program) {
  const int largest_block = program.maximum_threads ? program.maximum_threads : 1024;
  return std::min({(int)program.register_count, 255, 65536 / largest_block});
}

struct ErrorText {
  CUresult error;
  const char *name, *text;
};
constexpr ErrorText errors[] = {
    {CUDA_SUCCESS, "CUDA_SUCCESS", "no error"},
    {CUDA_ERROR_INVALID_VALUE, "CUDA_ERROR_INVALID_VALUE", "invalid argument"},
    {CUDA_ERROR_OUT_OF_MEMORY, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory"},
    {CUDA_ERROR_INVALID_DEVICE, "CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal"},
    {CUDA_ERROR_INVALID_CONTEXT, "CUDA_ERROR_INVALID_CONTEXT", "invalid device context"},
    {CUDA_ERROR_NO_BINARY_FOR_GPU, "CUDA_ERROR_NO_BINARY_FOR_GPU",
     "no kernel image is available for execution on the device"},
    {CUDA_ERROR_INVALID_PTX, "CUDA_ERROR_INVALID_PTX", "a PTX JIT compilation failed"},
    {CUDA_ERROR_UNSUPPORTED_PTX_VERSION, "CUDA_ERROR_UNSUPPORTED_PTX_VERSION",
     "the provided PTX was compiled with an unsupported toolchain."},
    {CUDA_ERROR_INVALID_HANDLE, "CUDA_ERROR_INVALID_HANDLE", "invalid resource handle"},
    {CUDA_ERROR_NOT_FOUND, "CUDA_ERROR_NOT_FOUND", "named symbol not found"},
    {CUDA_ERROR_ILLEGAL_ADDRESS, "CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal memory access was encountered"},
    {CUDA_ERROR_MISALIGNED_ADDRESS, "CUDA_ERROR_MISALIGNED_ADDRESS", "misaligned address"},
    {CUDA_ERROR_LAUNCH_FAILED, "CUDA_ERROR_LAUNCH_FAILED", "unspecified launch failure"},
};

const ErrorText* find_error(CUresult error) {
  for (const ErrorText& entry : errors)
    if (entry.error == error) return &entry;
  return nullptr;
}

}  // namespace

extern "C" {

CUresult cuInit(unsigned flags) { return flags ? CUDA_ERROR_INVALID_VALUE : CUDA_SUCCESS; }

CUresult cuDriverGetVersion(int* version) {
  *version = driver_version;
  return CUDA_SUCCESS;
}

CUresult cuDeviceGetCount(int* count) {
  *count = device_count;
  return CUDA_SUCCESS;
}

CUresult cuDeviceGet(CUdevice* device, int ordinal) {
  if (ordinal < 0 || ordinal >= device_count) return CUDA_ERROR_INVALID_DEVICE;
  *device = ordinal;
  return CUDA_SUCCESS;
}

CUresult cuDeviceGetName(char* name, int length, CUdevice device) {
  if (device < 0 || device >= device_count) return CUDA_ERROR_INVALID_DEVICE;
  std::snprintf(name, (size_t)length, "Emulated device %d", device);
  return CUDA_SUCCESS;
}

CUresult cuDeviceGetAttribute(int* value, int attribute, CUdevice device) {
  if (device < 0 || device >= device_count) return CUDA_ERROR_INVALID_DEVICE;
  const int capability = configuration.compute_capability;
  static const std::map<int, int> fixed = {
      {1, 1024},                // MAX_THREADS_PER_BLOCK
      {2, 1024},                // MAX_BLOCK_DIM_X
      {3, 1024},                // MAX_BLOCK_DIM_Y
      {4, 64},                  // MAX_BLOCK_DIM_Z
      {5, 0x7fffffff},          // MAX_GRID_DIM_X
      {6, 65535},               // MAX_GRID_DIM_Y
      {7, 65535},               // MAX_GRID_DIM_Z
      {8, usual_shared_bytes},  // MAX_SHARED_MEMORY_PER_BLOCK
      {9, 65536},               // TOTAL_CONSTANT_MEMORY
      {10, 32},                 // WARP_SIZE
      {12, 65536},              // MAX_REGISTERS_PER_BLOCK
      {13, 1000000},            // CLOCK_RATE
      {16, 4},                  // MULTIPROCESSOR_COUNT
      {31, 1},                  // CONCURRENT_KERNELS
      {36, 1000000},            // MEMORY_CLOCK_RATE
      {37, 256},                // GLOBAL_MEMORY_BUS_WIDTH
      {38, 4 << 20},            // L2_CACHE_SIZE
      {39, 2048},               // MAX_THREADS_PER_MULTIPROCESSOR
      {41, 1},                  // UNIFIED_ADDRESSING
      {82, 65536},              // MAX_REGISTERS_PER_MULTIPROCESSOR
      {106, 16},                // MAX_BLOCKS_PER_MULTIPROCESSOR
  };
  if (attribute == 75)
    *value = capability / 10;
  else if (attribute == 76)
    *value = capability % 10;
  else if (attribute == 81)
    *value = (int)optional_shared_bytes() + 1024;  // per multiprocessor
  else if (attribute == 97)
    *value = (int)optional_shared_bytes();  // per block, opted in
  else {
    const auto found = fixed.find(attribute);
    if (found == fixed.end()) return CUDA_ERROR_INVALID_VALUE;
    *value = found->second;
  }
  return CUDA_SUCCESS;
}

CUresult cuDevicePrimaryCtxRetain(CUcontext* context, CUdevice device) {
  if (device < 0 || device >= device_count) return CUDA_ERROR_INVALID_DEVICE;
  contexts[device].device = device;
  ++contexts[device].retained;
  *context = &contexts[device];
  return CUDA_SUCCESS;
}

CUresult cuDevicePrimaryCtxRelease_v2(CUdevice device) {
  if (device < 0 || device >= device_count) return CUDA_ERROR_INVALID_DEVICE;
  if (contexts[device].retained == 0) return CUDA_ERROR_INVALID_CONTEXT;
  --contexts[device].retained;
  return CUDA_SUCCESS;
}

CUresult cuCtxGetCurrent(CUcontext* context) {
  *context = current_context();
  return CUDA_SUCCESS;
}

CUresult cuCtxSetCurrent(CUcontext context) {
  std::vector<Context*>& stack = thread_state.stack;
  if (!stack.empty()) stack.pop_back();
  if (context) stack.push_back(static_cast<Context*>(context));
  return CUDA_SUCCESS;
}

CUresult cuCtxPushCurrent_v2(CUcontext context) {
  if (!context) return CUDA_ERROR_INVALID_CONTEXT;
  thread_state.stack.push_back(static_cast<Context*>(context));
  return CUDA_SUCCESS;
}

CUresult cuCtxPopCurrent_v2(CUcontext* context) {
  if (thread_state.stack.empty()) return CUDA_ERROR_INVALID_CONTEXT;
  if (context) *context = thread_state.stack.back();
  thread_state.stack.pop_back();
  return CUDA_SUCCESS;
}

CUresult cuCtxGetDevice(CUdevice* device) {
  if (!current_context()) return CUDA_ERROR_INVALID_CONTEXT;
  *device = current_context()->device;
  return CUDA_SUCCESS;
}

CUresult cuModuleLoadData(CUmodule* result, const void* image) {
  if (!current_context()) return CUDA_ERROR_INVALID_CONTEXT;
  if (!image) return CUDA_ERROR_INVALID_VALUE;
  auto module = std::make_unique<LoadedModule>();
  try {
    module->parsed = parse_ptx(static_cast<const char*>(image));
    if (module->parsed.version > newest_ptx) return fail(CUDA_ERROR_UNSUPPORTED_PTX_VERSION, "PTX is too new");
    if (module->parsed.target > configuration.compute_capability)
      return fail(CUDA_ERROR_NO_BINARY_FOR_GPU, "PTX is for sm_" + std::to_string(module->parsed.target));
    place_variables(*module);
  } catch (const PtxError& error) {
    return fail(CUDA_ERROR_INVALID_PTX, "PTX line " + std::to_string(error.line) + ": " + error.text);
  } catch (const std::exception& error) {
    return fail(CUDA_ERROR_INVALID_PTX, error.what());
  }
  module->context = current_context();
  const std::lock_guard<std::mutex> lock(modules_mutex);
  *result = module.get();
  modules[module.get()] = std::move(module);
  return CUDA_SUCCESS;
}

CUresult cuModuleUnload(CUmodule module) {
  const std::lock_guard<std::mutex> lock(modules_mutex);
  return modules.erase(static_cast<LoadedModule*>(module)) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE;
}

CUresult cuModuleGetFunction(CUfunction* result, CUmodule handle, const char* name) {
  const std::lock_guard<std::mutex> lock(modules_mutex);
  const auto found = modules.find(static_cast<LoadedModule*>(handle));
  if (found == modules.end()) return CUDA_ERROR_INVALID_HANDLE;
  LoadedModule& module = *found->second;
  const auto parsed = module.parsed.functions.find(name);
  if (parsed == module.parsed.functions.end() || !parsed->second.entry || !parsed->second.defined)
    return fail(CUDA_ERROR_NOT_FOUND, std::string("no kernel ") + name);
  LoadedFunction& function = module.functions[name];
  if (!function.program) {
    try {
      function.program = decode_entry(module.parsed, name, module.addresses);
    } catch (const PtxError& error) {
      return fail(CUDA_ERROR_INVALID_PTX,
                  std::string("kernel ") + name + ", PTX line " + std::to_string(error.line) + ": " + error.text);
    } catch (const std::exception& error) {
      return fail(CUDA_ERROR_INVALID_PTX, std::string("kernel ") + name + ": " + error.what());
    }
    function.module = &module;
    const u32 fixed = function.program->static_shared_bytes;
    function.dynamic_shared_limit = fixed < usual_shared_bytes ? usual_shared_bytes - fixed : 0;
  }
  *result = &function;
  return CUDA_SUCCESS;
}

CUresult cuFuncGetAttribute(int* value, int attribute, CUfunction handle) {
  if (!handle) return CUDA_ERROR_INVALID_HANDLE;
  const LoadedFunction& function = *static_cast<LoadedFunction*>(handle);
  const Program& program = *function.program;
  switch (attribute) {
    case 0:
      *value = program.maximum_threads ? program.maximum_threads : 1024;
      break;  // MAX_THREADS_PER_BLOCK
    case 1:
      *value = (int)program.static_shared_bytes;
      break;  // SHARED_SIZE_BYTES
    case 2:
      *value = 0;
      break;  // CONST_SIZE_BYTES
    case 3:
      *value = (int)program.local_bytes;
      break;  // LOCAL_SIZE_BYTES
    case 4:
      *value = registers_per_thread(program);
      break;  // NUM_REGS
    case 5:
      *value = function.module->parsed.target;
      break;  // PTX_VERSION
    case 6:
      *value = configuration.compute_capability;
      break;  // BINARY_VERSION
    case 8:
      *value = (int)function.dynamic_shared_limit;
      break;  // MAX_DYNAMIC_SHARED_SIZE_BYTES
    default:
      return CUDA_ERROR_INVALID_VALUE;
  }
  return CUDA_SUCCESS;
}

CUresult cuFuncSetAttribute(CUfunction handle, int attribute, int value) {
  if (!handle) return CUDA_ERROR_INVALID_HANDLE;
  LoadedFunction& function = *static_cast<LoadedFunction*>(handle);
  if (attribute == 9) return CUDA_SUCCESS;  // PREFERRED_SHARED_MEMORY_CARVEOUT, a hint
  if (attribute != 8 || value < 0) return CUDA_ERROR_INVALID_VALUE;
  if ((u32)value + function.program->static_shared_bytes > optional_shared_bytes()) return CUDA_ERROR_INVALID_VALUE;
  function.dynamic_shared_limit = (u32)value;
  return CUDA_SUCCESS;
}

CUresult cuLaunchKernel(CUfunction handle, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,
                        unsigned block_y, unsigned block_z, unsigned shared_bytes, CUstream, void** arguments,
                        void** extra) {
  thread_state.report.clear();
  thread_state.traffic = {};
  const auto launch = [&] {
    if (!current_context()) return fail(CUDA_ERROR_INVALID_CONTEXT, "no context is current");
    if (!handle) return fail(CUDA_ERROR_INVALID_HANDLE, "no function");
    LoadedFunction& function = *static_cast<LoadedFunction*>(handle);
    if (function.module->context != current_context())
      return fail(CUDA_ERROR_INVALID_HANDLE, "the function belongs to another context than the current one");
    if (extra) return fail(CUDA_ERROR_INVALID_VALUE, "arguments by 'extra' are not supported");
    const Dim3 grid{grid_x, grid_y, grid_z}, block{block_x, block_y, block_z};
    const u64 most = function.program->maximum_threads ? (u64)function.program->maximum_threads : 1024;
    if (!grid.count() || grid_x > 0x7fffffff || grid_y > 65535 || grid_z > 65535)
      return fail(CUDA_ERROR_INVALID_VALUE, "grid shape out of range");
    if (!block.count() || block_x > 1024 || block_y > 1024 || block_z > 64 || block.count() > most)
      return fail(CUDA_ERROR_INVALID_VALUE, "block shape out of range");
    if (shared_bytes > function.dynamic_shared_limit)
      return fail(CUDA_ERROR_INVALID_VALUE, "more dynamic shared memory than the function may use");
    try {
      return launch_kernel(function, grid, block, shared_bytes, arguments);
    } catch (const std::bad_alloc&) {
      return fail(CUDA_ERROR_OUT_OF_MEMORY, "the emulator ran out of memory");
    }
  };
  const CUresult result = launch();
  thread_state.buffers_declared = false;
  thread_state.buffers.clear();
  return result;
}

CUresult cuStreamSynchronize(CUstream) { return current_context() ? CUDA_SUCCESS : CUDA_ERROR_INVALID_CONTEXT; }
CUresult cuCtxSynchronize(void) { return current_context() ? CUDA_SUCCESS : CUDA_ERROR_INVALID_CONTEXT; }

CUresult cuGetErrorName(CUresult error, const char** name) {
  const ErrorText* entry = find_error(error);
  *name = entry ? entry->name : nullptr;
  return entry ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuGetErrorString(CUresult error, const char** text) {
  const ErrorText* entry = find_error(error);
  *text = entry ? entry->text : nullptr;
  return entry ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
}

void emulator_configure(int compute_capability, uint64_t seed) {
  configuration.compute_capability = compute_capability;
  configuration.seed = seed;
  configuration.launches = 0;
}

void emulator_set_buffers(const EmulatorBuffer* buffers, int count) {
  thread_state.buffers_declared = buffers != nullptr;
  thread_state.buffers.clear();
  for (int b = 0; buffers && b < count; ++b) {
    Buffer buffer;
    buffer.name = buffers[b].name ? buffers[b].name : "buffer " + std::to_string(b);
    buffer.address = reinterpret_cast<u64>(buffers[b].data);
    buffer.rows = (u64)buffers[b].rows;
    buffer.row_bytes = (u64)buffers[b].row_bytes;
    buffer.row_stride = buffers[b].row_stride_bytes ? (u64)buffers[b].row_stride_bytes : buffer.row_bytes;
    buffer.rights = (Buffer::Rights)buffers[b].access;
    thread_state.buffers.push_back(std::move(buffer));
  }
}

const char* emulator_report(void) { return thread_state.report.c_str(); }

void emulator_count(int on) { thread_state.counts_memory = on != 0; }

void emulator_traffic(EmulatorTraffic* traffic) {
  const TrafficCounts& c = thread_state.traffic;
  *traffic = {c.read_bytes,
              c.written_bytes,
              c.read_bytes_distinct,
              c.written_bytes_distinct,
              c.shared_bank_conflicts,
              c.shared_accesses,
              c.instructions,
              c.fma,
              c.mma_products};
}

}  // extern "C"
