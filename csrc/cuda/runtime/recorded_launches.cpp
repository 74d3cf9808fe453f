// Records launches with the blocks of memory that they use, and repeats them.
#include "recorded_launches.h"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <stdexcept>

namespace ladderseg::cuda {
namespace {

thread_local RecordedLaunches* recording = nullptr;

}  // namespace

int64_t RecordedLaunches::add_block(uintptr_t address, int64_t bytes) {
  const auto number = static_cast<int64_t>(block_bytes_.size());
  block_bytes_.push_back(bytes);
  spans_.emplace_back();
  if (bytes == 0) return number;
  auto first = blocks_.lower_bound(address);
  if (first != blocks_.begin()) {
    const auto before = std::prev(first);
    if (before->first + static_cast<uintptr_t>(block_bytes_[before->second]) > address) first = before;
  }
  blocks_.erase(first, blocks_.lower_bound(address + static_cast<uintptr_t>(bytes)));
  blocks_[address] = number;
  return number;
}

std::optional<RecordedLaunches::Place> RecordedLaunches::find(uintptr_t address, int64_t bytes) const {
  auto after = blocks_.upper_bound(address);
  if (after == blocks_.begin()) return std::nullopt;
  const auto& [start, block] = *--after;
  const auto offset = static_cast<int64_t>(address - start);
  if (offset + bytes > block_bytes_[block]) return std::nullopt;
  return Place{block, offset};
}

void RecordedLaunches::forget_blocks_except(const std::vector<int64_t>& blocks) {
  std::vector<bool> kept(block_bytes_.size(), false);
  for (const int64_t block : blocks) kept.at(static_cast<std::size_t>(block)) = true;
  for (auto each = blocks_.begin(); each != blocks_.end();)
    each = kept[static_cast<std::size_t>(each->second)] ? std::next(each) : blocks_.erase(each);
}

void RecordedLaunches::use(const std::vector<int64_t>& blocks) {
  for (const int64_t block : blocks) use_block(block);
  ++events_;
}

void RecordedLaunches::use_block(int64_t block) {
  Span& span = spans_.at(static_cast<std::size_t>(block));
  if (span.first < 0) span.first = events_;
  span.last = events_;
}

void RecordedLaunches::start() {
  if (recording) throw std::runtime_error("launches of this thread are being recorded already");
  recording = this;
}

void RecordedLaunches::stop() {
  if (recording == this) recording = nullptr;
}

RecordedLaunches* RecordedLaunches::started() { return recording; }

void RecordedLaunches::fail(const std::string& reason) {
  if (failure_.empty()) failure_ = reason;
}

bool RecordedLaunches::add_arguments(const std::string& kernel, const void* arguments, std::size_t bytes,
                                     const std::vector<std::size_t>& pointers) {
  const std::size_t start = arguments_.size() * sizeof(uint64_t);
  arguments_.resize(arguments_.size() + (bytes + sizeof(uint64_t) - 1) / sizeof(uint64_t));
  char* const copy = reinterpret_cast<char*>(arguments_.data()) + start;
  std::memcpy(copy, arguments, bytes);
  for (const std::size_t at : pointers) {
    uintptr_t pointer = 0;
    std::memcpy(&pointer, copy + at, sizeof(pointer));
    if (!pointer) continue;
    const std::optional<Place> place = find(pointer);
    if (!place) {
      fail("an argument of " + kernel + " points to memory of which the recording knows nothing");
      return false;
    }
    use_block(place->block);
    pointers_.push_back({start + at, *place});
  }
  return true;
}

void RecordedLaunches::add(const Device& device, Function function, const std::string& kernel, const Launch& launch,
                           const void* arguments, std::size_t bytes, const std::vector<std::size_t>& pointers) {
  if (device_ ? device_ != &device : !launches_.empty())
    return fail(kernel + " is launched on another device than kernels before it");
  device_ = &device;
  Recorded entry{function, kernel, launch.grid, launch.block, arguments_.size() * sizeof(uint64_t), {}, {}, {}};
  if (!add_arguments(kernel, arguments, bytes, pointers)) return;
  for (const Buffer& buffer : launch.buffers) {
    const int64_t extent = buffer.rows > 0 ? (buffer.rows - 1) * buffer.row_stride + buffer.row_bytes : 0;
    if (!buffer.data || extent == 0) continue;
    const std::optional<Place> place = find(reinterpret_cast<uintptr_t>(buffer.data), extent);
    if (!place) return fail(std::string(buffer.name) + " of " + kernel + " is not within one block of memory");
    if (!device.driver.set_buffers) continue;
    entry.buffers.push_back(buffer);
    entry.buffer_places.push_back(*place);
  }
  launches_.push_back(std::move(entry));
  ++events_;
}

void RecordedLaunches::add_on_cpu(const std::string& kernel, CpuKernel run, const void* arguments, std::size_t bytes,
                                  const std::vector<std::size_t>& pointers) {
  if (device_) return fail(kernel + " runs on another device than kernels before it");
  Recorded entry{nullptr, kernel, {}, {}, arguments_.size() * sizeof(uint64_t), {}, {}, std::move(run)};
  if (!add_arguments(kernel, arguments, bytes, pointers)) return;
  launches_.push_back(std::move(entry));
  ++events_;
}

void RecordedLaunches::place(const std::vector<int64_t>& slots, const std::vector<int64_t>& offsets,
                             int64_t slot_count) {
  if (slots.size() != block_bytes_.size() || offsets.size() != slots.size())
    throw std::invalid_argument("every block needs a slot and an offset");
  const auto placed = [&](const Place& place) {
    const auto block = static_cast<std::size_t>(place.block);
    if (slots[block] < 0 || slots[block] >= slot_count) throw std::invalid_argument("a block has no slot");
    return Place{slots[block], offsets[block] + place.offset};
  };
  for (Pointer& pointer : pointers_) pointer.place = placed(pointer.place);
  for (Recorded& launch : launches_)
    for (Place& place : launch.buffer_places) place = placed(place);
  std::stable_sort(pointers_.begin(), pointers_.end(),
                   [](const Pointer& a, const Pointer& b) { return a.place.block < b.place.block; });
  ends_.assign(static_cast<std::size_t>(slot_count), 0);
  for (const Pointer& pointer : pointers_) ++ends_[static_cast<std::size_t>(pointer.place.block)];
  std::partial_sum(ends_.begin(), ends_.end(), ends_.begin());
  bases_.assign(static_cast<std::size_t>(slot_count), 0);
  for (std::size_t slot = 0; slot < bases_.size(); ++slot) write_pointers(slot);
  blocks_.clear();
}

void RecordedLaunches::write_pointers(std::size_t slot) {
  char* const arguments = reinterpret_cast<char*>(arguments_.data());
  for (std::size_t i = slot == 0 ? 0 : ends_[slot - 1]; i < ends_[slot]; ++i) {
    const uintptr_t pointer = address(pointers_[i].place);
    std::memcpy(arguments + pointers_[i].at, &pointer, sizeof(pointer));
  }
}

void RecordedLaunches::set_base(int64_t number, uintptr_t address) {
  const auto slot = static_cast<std::size_t>(number);
  if (bases_.at(slot) == address) return;
  bases_[slot] = address;
  write_pointers(slot);
}

void RecordedLaunches::set_bases(const std::vector<int64_t>& slots, const std::vector<uintptr_t>& addresses) {
  if (slots.size() != addresses.size()) throw std::invalid_argument("every slot needs an address");
  for (std::size_t i = 0; i < slots.size(); ++i) set_base(slots[i], addresses[i]);
}

void RecordedLaunches::check_range(int64_t first, int64_t last, bool on_cpu) const {
  if (first < 0 || first > last || last > launches() || bases_.empty() ||
      (first < last && on_cpu == (device_ != nullptr)))
    throw std::invalid_argument("there are no such launches");
}

void RecordedLaunches::repeat_on_cpu(int64_t first, int64_t last, int threads) {
  check_range(first, last, true);
  const char* const arguments = reinterpret_cast<const char*>(arguments_.data());
  for (auto i = static_cast<std::size_t>(first); i < static_cast<std::size_t>(last); ++i)
    launches_[i].run(arguments + launches_[i].arguments, threads);
}

void RecordedLaunches::repeat(int64_t first, int64_t last, Stream stream) {
  check_range(first, last, false);
  if (first == last) return;
  const Driver& driver = device_->driver;
  const CurrentContext current(*device_);
  char* const arguments = reinterpret_cast<char*>(arguments_.data());
  for (auto i = static_cast<std::size_t>(first); i < static_cast<std::size_t>(last); ++i) {
    Recorded& launch = launches_[i];
    if (driver.set_buffers) {
      for (std::size_t b = 0; b < launch.buffers.size(); ++b)
        launch.buffers[b].data = reinterpret_cast<const void*>(address(launch.buffer_places[b]));
      driver.set_buffers(launch.buffers.data(), static_cast<int>(launch.buffers.size()));
    }
    enqueue(driver, launch.function, launch.kernel, launch.grid, launch.block, stream, arguments + launch.arguments);
  }
}

}  // namespace ladderseg::cuda
