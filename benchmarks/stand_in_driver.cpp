// A stand-in for the CUDA driver that accepts every launch and does nothing, for measuring the host's own time.
//
// benchmarks/host_time.py compiles it. It offers the functions that csrc/cuda/runtime/driver.h looks up.
#include <atomic>

namespace {

std::atomic<long long> launches{0};
int context, module, function;

}  // namespace

extern "C" {

int cuInit(unsigned) { return 0; }
int cuDriverGetVersion(int* version) { return *version = 13000, 0; }
int cuDeviceGet(int* device, int number) { return *device = number, 0; }
// Compute capability 9.0, and the multiprocessors of an H200.
int cuDeviceGetAttribute(int* value, int attribute, int) {
  *value = attribute == 75 ? 9 : attribute == 76 ? 0 : 132;
  return 0;
}
int cuDevicePrimaryCtxRetain(void** result, int) { return *result = &context, 0; }
int cuCtxGetCurrent(void** result) { return *result = &context, 0; }
int cuCtxPushCurrent_v2(void*) { return 0; }
int cuCtxPopCurrent_v2(void**) { return 0; }
int cuModuleLoadData(void** result, const void*) { return *result = &module, 0; }
int cuModuleGetFunction(void** result, void*, const char*) { return *result = &function, 0; }
int cuLaunchKernel(void*, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, void*, void**, void**) {
  ++launches;
  return 0;
}
int cuGetErrorName(int, const char** name) { return *name = "CUDA_SUCCESS", 0; }
int cuGetErrorString(int, const char** text) { return *text = "no error", 0; }

// Launches since the last call.
long long launches_since() { return launches.exchange(0); }
}
