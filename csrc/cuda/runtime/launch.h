// Launching a kernel, and keeping a record of launches for the roofline.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "device.h"
#include "pointer_fields.h"

namespace ladderseg::cuda {

enum class Element { float32, float64, float16, bfloat16 };

const char* name(Element element);
int element_bytes(Element element);
// Bytes of a Real, the type of vectors, sums and weight gradients.
int real_bytes(Element element);

// Target of a call's kernels: the element type of its maps, a device, a stream of it, and memory for partial results,
// valid for work on this stream until the call has returned.
struct Queue {
  Element element;
  int device;
  Stream stream;
  std::function<void*(int64_t bytes)> allocate;
  bool allow_tf32;  // products of float32 by tensor cores, as torch.backends.cudnn.allow_tf32 says
};

// Properties of the queue's device, for launchers.
int capability(const Queue& queue);
int multiprocessors(const Queue& queue);

enum class Access : int {
  read = 0,
  write = 1,       // every byte is written; what was there before is not read
  read_write = 2,  // in place
  scratch = 3,     // read after it has been written in the same launch
};

struct Size {
  unsigned x = 1, y = 1, z = 1;
};

struct Launch {
  const char* image;   // the operator's, without the element's name
  const char* kernel;  // likewise
  Size grid, block;
  std::vector<Buffer> buffers = {};  // all memory that it touches
  double operations = 0.0;  // multiplications and additions of its products, or an estimate of other arithmetic
};

// Enqueues a launch whose kernel takes `bytes` of arguments, with pointers at these offsets; does nothing for an empty
// grid. Throws std::runtime_error with the kernel's name and sizes.
void launch(const Queue& queue, const Launch& launch, const void* arguments, std::size_t bytes,
            const std::vector<std::size_t>& pointers);

template <class Arguments>
void launch(const Queue& queue, const Launch& launch, const Arguments* arguments) {
  cuda::launch(queue, launch, arguments, sizeof(Arguments), pointer_fields<Arguments>());
}

// Enqueues a kernel of the context that is current.
void enqueue(const Driver& driver, Function function, const std::string& kernel, Size grid, Size block, Stream stream,
             const void* arguments);

// A launch that was recorded.
struct Record {
  std::string kernel;
  Size grid, block;
  int64_t read_bytes, written_bytes;  // of the buffers; each byte once
  double operations;
};

// Starts to record launches instead of running them, for a device of this compute capability and size.
void start_recording(int capability, int multiprocessors);
std::vector<Record> stop_recording();

}  // namespace ladderseg::cuda
