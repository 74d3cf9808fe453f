// Opens the CUDA driver library and looks up its functions; turns error codes into exceptions.
#include "driver.h"

#include <dlfcn.h>

#include <map>
#include <memory>
#include <mutex>
#include <stdexcept>

namespace ladderseg::cuda {
namespace {

template <class F>
void find_optional(void* library, const char* name, F& function) {
  function = reinterpret_cast<F>(dlsym(library, name));
}

template <class F>
void find(void* library, const std::string& path, const char* name, F& function) {
  find_optional(library, name, function);
  if (!function) throw std::runtime_error("the CUDA driver " + path + " has no function " + name);
}

std::unique_ptr<Driver> load(const std::string& path) {
  void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!library) throw std::runtime_error(std::string("cannot open the CUDA driver: ") + dlerror());
  auto driver = std::make_unique<Driver>();
  find(library, path, "cuInit", driver->init);
  find(library, path, "cuDriverGetVersion", driver->driver_version);
  find(library, path, "cuDeviceGet", driver->device_get);
  find(library, path, "cuDeviceGetAttribute", driver->device_attribute);
  find(library, path, "cuDevicePrimaryCtxRetain", driver->primary_context_retain);
  find(library, path, "cuCtxGetCurrent", driver->context_current);
  find(library, path, "cuCtxPushCurrent_v2", driver->context_push);
  find(library, path, "cuCtxPopCurrent_v2", driver->context_pop);
  find(library, path, "cuModuleLoadData", driver->module_load);
  find(library, path, "cuModuleGetFunction", driver->module_function);
  find(library, path, "cuLaunchKernel", driver->launch);
  find(library, path, "cuGetErrorName", driver->error_name);
  find(library, path, "cuGetErrorString", driver->error_string);
  find_optional(library, "cuModuleGetFunctionCount", driver->module_function_count);
  find_optional(library, "cuModuleEnumerateFunctions", driver->module_functions);
  find_optional(library, "cuFuncGetName", driver->function_name);
  find_optional(library, "cuFuncLoad", driver->function_load);
  find_optional(library, "emulator_set_buffers", driver->set_buffers);
  find_optional(library, "emulator_report", driver->report);
  check(*driver, driver->init(0), "initialising the CUDA driver " + path);
  return driver;
}

}  // namespace

const Driver& open_driver(const std::string& path) {
  static std::mutex mutex;
  static std::map<std::string, std::unique_ptr<Driver>> drivers;
  const std::lock_guard<std::mutex> lock(mutex);
  auto& driver = drivers[path];
  if (!driver) driver = load(path);
  return *driver;
}

void check(const Driver& driver, Result result, const std::string& doing) {
  if (result == 0) return;
  const char* name = nullptr;
  const char* text = nullptr;
  driver.error_name(result, &name);
  driver.error_string(result, &text);
  std::string message = "CUDA error while " + doing + ": " + (name ? name : "unknown error") + " (" +
                        std::to_string(result) + ")" + (text ? std::string(", ") + text : "");
  if (driver.report) {
    const char* report = driver.report();
    if (report && *report) message += std::string("\n") + report;
  }
  throw std::runtime_error(message);
}

}  // namespace ladderseg::cuda
