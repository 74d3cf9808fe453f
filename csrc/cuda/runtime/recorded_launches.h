// The launches of a pass, recorded while they run, to be repeated with other memory. On the CPU, a launch is a kernel's
// call.
//
// A recording knows memory as numbered blocks, which its owner announces as they are allocated. Every pointer among a
// kernel's arguments becomes a place in a block. For repeating, each block gets a place in a slot: a piece of memory
// whose address, its base, may be another one each time.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "launch.h"

namespace ladderseg::cuda {

class RecordedLaunches {
 public:
  struct Place {
    int64_t block, offset;  // offset in bytes
  };
  // First and last event in which a block is used; -1 if it is not.
  struct Span {
    int64_t first = -1, last = -1;
  };

  using CpuKernel = std::function<void(const void* arguments, int threads)>;

  // Announces memory. It replaces all blocks that it overlaps: those have been freed. Returns the block's number.
  int64_t add_block(uintptr_t address, int64_t bytes);
  // The place of an address, if it is in a block.
  std::optional<Place> find(uintptr_t address, int64_t bytes = 1) const;
  // Forgets where all blocks are but these: what lies there from now on may be something else.
  void forget_blocks_except(const std::vector<int64_t>& blocks);
  // Counts an event that uses `blocks` and is no launch.
  void use(const std::vector<int64_t>& blocks);

  // From `start` to `stop`, launches of this thread are added. At most one recording may be started in a thread.
  void start();
  void stop();
  // The recording started in this thread, or nullptr.
  static RecordedLaunches* started();
  // Adds a launch of `function`, with the offsets of the pointers among its arguments.
  void add(const Device& device, Function function, const std::string& kernel, const Launch& launch,
           const void* arguments, std::size_t bytes, const std::vector<std::size_t>& pointers);

  // Adds a call of a kernel on the CPU, which `run` repeats, with the offsets of the pointers among its arguments.
  void add_on_cpu(const std::string& kernel, CpuKernel run, const void* arguments, std::size_t bytes,
                  const std::vector<std::size_t>& pointers);

  int64_t launches() const { return static_cast<int64_t>(launches_.size()); }
  int64_t events() const { return events_; }
  const std::vector<int64_t>& block_bytes() const { return block_bytes_; }
  const std::vector<Span>& spans() const { return spans_; }
  // Why the launches cannot be repeated; empty if they can.
  const std::string& failure() const { return failure_; }

  // Ends the recording: block i is at `offsets[i]` in slot `slots[i]`, of so many slots.
  void place(const std::vector<int64_t>& slots, const std::vector<int64_t>& offsets, int64_t slot_count);
  // Sets the address of a slot, or of several. Only pointers into slots that have moved are written: most stay from
  // step to step.
  void set_base(int64_t slot, uintptr_t address);
  void set_bases(const std::vector<int64_t>& slots, const std::vector<uintptr_t>& addresses);
  // Enqueues launches [first, last) on a stream of their device. Throws std::runtime_error like `launch`.
  void repeat(int64_t first, int64_t last, Stream stream);
  // Runs calls [first, last) of kernels on the CPU on teams of so many threads.
  void repeat_on_cpu(int64_t first, int64_t last, int threads);

 private:
  struct Pointer {
    std::size_t at;  // bytes from the start of all arguments
    Place place;     // in a block; once placed, in a slot
  };
  struct Recorded {
    Function function;
    std::string kernel;
    Size grid, block;
    std::size_t arguments;        // start of its arguments
    std::vector<Buffer> buffers;  // for a driver that checks the kernels
    std::vector<Place> buffer_places;
    CpuKernel run;  // on the CPU, instead of the function
  };

  // Copies a launch's arguments; false, and a failure, if one points to unknown memory.
  bool add_arguments(const std::string& kernel, const void* arguments, std::size_t bytes,
                     const std::vector<std::size_t>& pointers);
  void check_range(int64_t first, int64_t last, bool on_cpu) const;
  void fail(const std::string& reason);
  void use_block(int64_t block);
  void write_pointers(std::size_t slot);
  uintptr_t address(const Place& place) const {
    return bases_[static_cast<std::size_t>(place.block)] + static_cast<uintptr_t>(place.offset);
  }

  const Device* device_ = nullptr;
  std::map<uintptr_t, int64_t> blocks_;  // numbers by address
  std::vector<int64_t> block_bytes_;
  std::vector<Span> spans_;
  int64_t events_ = 0;
  std::string failure_;
  std::vector<Recorded> launches_;
  std::vector<uint64_t> arguments_;  // of all launches
  std::vector<Pointer> pointers_;    // likewise; once placed, in the order of their slots
  std::vector<std::size_t> ends_;    // of each slot's pointers
  std::vector<uintptr_t> bases_;     // by slot
};

}  // namespace ladderseg::cuda
