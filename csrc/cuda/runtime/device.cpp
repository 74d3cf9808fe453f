// Devices: properties, primary contexts, and loading of kernel images.
#include "device.h"

#include <memory>
#include <stdexcept>
#include <utility>
#include <vector>

namespace ladderseg::cuda {
namespace {

std::mutex mutex;
std::string driver_path = "libcuda.so.1";
ImageProvider provider;
std::map<std::pair<std::string, int>, std::unique_ptr<Device>> devices;

int attribute(const Driver& driver, Attribute which, Ordinal device) {
  int value = 0;
  check(driver, driver.device_attribute(&value, static_cast<int>(which), device), "reading a device's attributes");
  return value;
}

}  // namespace

void set_image_provider(ImageProvider new_provider) {
  const std::lock_guard<std::mutex> lock(mutex);
  provider = std::move(new_provider);
}

void use_driver(const std::string& path) {
  const std::lock_guard<std::mutex> lock(mutex);
  driver_path = path;
}

Device& Device::get(int number) {
  const std::lock_guard<std::mutex> lock(mutex);
  auto& device = devices[{driver_path, number}];
  if (!device) device = std::make_unique<Device>(open_driver(driver_path), number);
  return *device;
}

Device::Device(const Driver& driver, int number) : driver(driver) {
  Ordinal device = 0;
  const std::string name = "CUDA device " + std::to_string(number);
  check(driver, driver.device_get(&device, number), "looking up " + name);
  major_ = attribute(driver, Attribute::capability_major, device);
  minor_ = attribute(driver, Attribute::capability_minor, device);
  multiprocessors_ = attribute(driver, Attribute::multiprocessors, device);
  check(driver, driver.driver_version(&driver_version_), "asking for the CUDA driver's version");
  // Never released: kernels may be launched until the process ends.
  check(driver, driver.primary_context_retain(&context_, device), "taking the primary context of " + name);
}

Function Device::function(const std::string& image, const std::string& kernel) {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto known = functions_.find({image, kernel});
    if (known != functions_.end()) return known->second;
  }
  // The provider is Python and may compile for a while. So it is called without the lock, which another thread may hold
  // along with the GIL. Two threads may thus load an image twice; the first image stays.
  Module module = nullptr;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto loaded = modules_.find(image);
    if (loaded != modules_.end()) module = loaded->second;
  }
  if (!module) {
    if (!provider) throw std::runtime_error("no provider of CUDA kernel images has been set");
    const std::string code = provider(image, major_, minor_, driver_version_);
    const std::string what = image + " (" + std::to_string(code.size()) + " bytes) on a device of compute capability " +
                             std::to_string(major_) + "." + std::to_string(minor_);
    check(driver, driver.module_load(&module, code.c_str()), "loading the kernel image " + what);
    const std::map<std::string, Function> loaded = load_functions(module);
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto [place, is_first] = modules_.emplace(image, module);
    module = place->second;
    if (is_first)
      for (const auto& [name, function] : loaded) functions_.emplace(std::make_pair(image, name), function);
    const auto known = functions_.find({image, kernel});
    if (known != functions_.end()) return known->second;
  }
  Function function = nullptr;
  check(driver, driver.module_function(&function, module, kernel.c_str()), "looking up the kernel " + kernel);
  const std::lock_guard<std::mutex> lock(mutex_);
  return functions_.emplace(std::make_pair(image, kernel), function).first->second;
}

std::map<std::string, Function> Device::load_functions(Module module) const {
  std::map<std::string, Function> loaded;
  if (!driver.module_function_count || !driver.module_functions || !driver.function_name || !driver.function_load)
    return loaded;
  unsigned count = 0;
  check(driver, driver.module_function_count(&count, module), "counting the kernels of an image");
  std::vector<Function> functions(count);
  check(driver, driver.module_functions(functions.data(), count, module), "listing the kernels of an image");
  for (const Function function : functions) {
    const char* name = nullptr;
    check(driver, driver.function_name(&name, function), "asking for a kernel's name");
    check(driver, driver.function_load(function), std::string("loading the kernel ") + name);
    loaded.emplace(name, function);
  }
  return loaded;
}

CurrentContext::CurrentContext(const Device& device) : device_(device), pushed_(false) {
  Context current = nullptr;
  check(device.driver, device.driver.context_current(&current), "asking for the current CUDA context");
  if (current == device.context()) return;
  check(device.driver, device.driver.context_push(device.context()), "making a CUDA context current");
  pushed_ = true;
}

CurrentContext::~CurrentContext() {
  Context context;
  if (pushed_) device_.driver.context_pop(&context);
}

}  // namespace ladderseg::cuda
