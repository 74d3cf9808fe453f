// Launches kernels through the driver, and records launches for the roofline.
#include "launch.h"

#include <memory>

#include "recorded_launches.h"

namespace ladderseg::cuda {
namespace {

struct Recording {
  int capability, multiprocessors;
  std::vector<Record> records;
};

std::unique_ptr<Recording> recording;

std::string text(Size size) {
  return "(" + std::to_string(size.x) + ", " + std::to_string(size.y) + ", " + std::to_string(size.z) + ")";
}

void record(const std::string& kernel, const Launch& launch) {
  Record entry{kernel, launch.grid, launch.block, 0, 0, launch.operations};
  for (const Buffer& buffer : launch.buffers) {
    const int64_t bytes = buffer.rows * buffer.row_bytes;
    const auto access = static_cast<Access>(buffer.access);
    if (access == Access::read || access == Access::read_write) entry.read_bytes += bytes;
    if (access != Access::read) entry.written_bytes += bytes;
  }
  recording->records.push_back(entry);
}

}  // namespace

const char* name(Element element) {
  switch (element) {
    case Element::float32:
      return "float32";
    case Element::float64:
      return "float64";
    case Element::float16:
      return "float16";
    default:
      return "bfloat16";
  }
}

int element_bytes(Element element) {
  switch (element) {
    case Element::float32:
      return 4;
    case Element::float64:
      return 8;
    default:
      return 2;
  }
}

int real_bytes(Element element) { return element == Element::float64 ? 8 : 4; }

int capability(const Queue& queue) {
  return recording ? recording->capability : Device::get(queue.device).capability();
}

int multiprocessors(const Queue& queue) {
  return recording ? recording->multiprocessors : Device::get(queue.device).multiprocessors();
}

void launch(const Queue& queue, const Launch& launch, const void* arguments, std::size_t bytes,
            const std::vector<std::size_t>& pointers) {
  if (launch.grid.x == 0 || launch.grid.y == 0 || launch.grid.z == 0) return;
  const std::string suffix = std::string("_") + name(queue.element);
  const std::string kernel = launch.kernel + suffix;
  if (recording) return record(kernel, launch);
  Device& device = Device::get(queue.device);
  const CurrentContext current(device);
  const Function function = device.function(launch.image + suffix, kernel);
  if (device.driver.set_buffers)
    device.driver.set_buffers(launch.buffers.data(), static_cast<int>(launch.buffers.size()));
  enqueue(device.driver, function, kernel, launch.grid, launch.block, queue.stream, arguments);
  if (RecordedLaunches* const recorded = RecordedLaunches::started())
    recorded->add(device, function, kernel, launch, arguments, bytes, pointers);
}

void enqueue(const Driver& driver, Function function, const std::string& kernel, Size grid, Size block, Stream stream,
             const void* arguments) {
  void* pointers[] = {const_cast<void*>(arguments)};
  const Result result =
      driver.launch(function, grid.x, grid.y, grid.z, block.x, block.y, block.z, 0, stream, pointers, nullptr);
  if (result != 0) check(driver, result, "launching " + kernel + ", grid " + text(grid) + ", block " + text(block));
}

void start_recording(int capability, int multiprocessors) {
  recording = std::make_unique<Recording>(Recording{capability, multiprocessors, {}});
}

std::vector<Record> stop_recording() {
  std::vector<Record> records = recording ? std::move(recording->records) : std::vector<Record>();
  recording.reset();
  return records;
}

}  // namespace ladderseg::cuda
