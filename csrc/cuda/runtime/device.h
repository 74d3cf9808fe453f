// Devices: their properties, primary contexts, and the kernels loaded into them.
#pragma once

#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <utility>

#include "driver.h"

namespace ladderseg::cuda {

// Returns the image `name` ("bn_relu_float32") for a device of compute capability (8, 6), as cuModuleLoadData takes it.
using ImageProvider = std::function<std::string(const std::string& name, int major, int minor, int driver_version)>;

// Sets the provider; the Python side calls it once. Kernels already loaded stay.
void set_image_provider(ImageProvider provider);

// Sets the driver in which devices are looked up from now on; initially "libcuda.so.1".
void use_driver(const std::string& path);

class Device {
 public:
  // Device `number` of the driver in use. Throws std::runtime_error.
  static Device& get(int number);

  Device(const Driver& driver, int number);

  const Driver& driver;
  int capability() const { return 10 * major_ + minor_; }  // 86
  int multiprocessors() const { return multiprocessors_; }
  Context context() const { return context_; }

  // A kernel of the image, which is loaded with all its kernels when the first of them is used: a driver may not load
  // them while a stream is captured. Drivers older than CUDA 12.4 load each at its own first use. Call with the context
  // current.
  Function function(const std::string& image, const std::string& kernel);

 private:
  // Loads the kernels of a module, by name.
  std::map<std::string, Function> load_functions(Module module) const;

  int major_, minor_, multiprocessors_, driver_version_;
  Context context_;
  std::mutex mutex_;
  std::map<std::string, Module> modules_;
  std::map<std::pair<std::string, std::string>, Function> functions_;  // by image and kernel
};

// Makes the device's primary context, which is torch's, current in this thread for as long as it lives. A thread of
// autograd, or one of the user's, may have another one or none.
class CurrentContext {
 public:
  explicit CurrentContext(const Device& device);
  ~CurrentContext();
  CurrentContext(const CurrentContext&) = delete;
  CurrentContext& operator=(const CurrentContext&) = delete;

 private:
  const Device& device_;
  bool pushed_;
};

}  // namespace ladderseg::cuda
