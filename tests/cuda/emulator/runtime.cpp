// tl/cuda/runtime.hpp by the emulator: a "GPU" whose memory the host cannot touch and whose work runs late.
#include "tl/cuda/runtime.hpp"

#include <sys/mman.h>

#include <cstring>
#include <deque>
#include <map>
#include <mutex>
#include <utility>

#include "caching_allocator.hpp"
#include "emulator/emulator.hpp"
#include "emulator/stream.hpp"

namespace tl::emulator {
namespace {

std::recursive_mutex mutex;

/// Device memory is closed to the host, as on a GPU: code outside of kernels and copies that follows a device pointer
/// stops the program at that line instead of working by accident.
class DeviceMemory {
 public:
  void* allocate(std::size_t bytes) {
    const std::lock_guard<std::recursive_mutex> lock(mutex);
    void* memory = mmap(nullptr, bytes, open_ ? PROT_READ | PROT_WRITE : PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) return nullptr;
    segments_.emplace(memory, bytes);
    return memory;
  }
  void release(void* memory) {
    const std::lock_guard<std::recursive_mutex> lock(mutex);
    const auto found = segments_.find(memory);
    munmap(memory, found->second);
    segments_.erase(found);
  }
  void open() { protect(true); }
  void close() { protect(false); }

 private:
  void protect(bool open) {
    open_ = open;
    for (const auto& [memory, bytes] : segments_) mprotect(memory, bytes, open ? PROT_READ | PROT_WRITE : PROT_NONE);
  }
  std::map<void*, std::size_t> segments_;
  bool open_ = false;
};

DeviceMemory device_memory;
std::deque<std::function<void()>> queue;

}  // namespace

void enqueue(std::function<void()> work) {
  const std::lock_guard<std::recursive_mutex> lock(mutex);
  queue.push_back(std::move(work));
}

void drain() {
  const std::lock_guard<std::recursive_mutex> lock(mutex);
  if (queue.empty()) return;
  struct Access {
    Access() { device_memory.open(); }
    ~Access() { device_memory.close(); }
  } const access;
  auto work = std::exchange(queue, {});
  for (; !work.empty(); work.pop_front()) work.front()();
}

}  // namespace tl::emulator

namespace tl::cuda {
namespace {

thread_local Stream current;

CachingAllocator& allocator() {
  static auto* const instance = new CachingAllocator({
      [](std::size_t bytes) { return emulator::device_memory.allocate(bytes); },
      [](void* memory) {
        emulator::drain();  // cudaFree waits for the device
        emulator::device_memory.release(memory);
      },
  });
  return *instance;
}

}  // namespace

int device_count() { return 1; }

// One queue serves all streams: the emulator does not look for missing waits between streams.
Stream create_stream() {
  static std::uintptr_t count = 0;
  return {reinterpret_cast<void*>(++count)};
}
void destroy_stream(Stream) { emulator::drain(); }
Stream current_stream() { return current; }
Stream set_current_stream(Stream stream) { return std::exchange(current, stream); }
void synchronize() { emulator::drain(); }

void* allocate(std::size_t bytes) {
  void* memory = allocator().allocate(bytes, current.handle);
  fill_bytes(memory, 0xFF, bytes);  // NaN: a kernel that reads what nobody wrote shows
  return memory;
}
void deallocate(void* memory) noexcept { allocator().deallocate(memory); }
MemoryStatistics memory_statistics() { return allocator().statistics(); }
void reset_peak_bytes() { allocator().reset_peak(); }
void empty_cache() { allocator().empty_cache(); }

void copy_on_device(void* to, const void* from, std::size_t bytes) {
  if (bytes == 0) return;
  emulator::enqueue([=] { std::memmove(to, from, bytes); });
}
void copy_to_device(void* device, const void* host, std::size_t bytes) {
  copy_on_device(device, host, bytes);
  synchronize();
}
void copy_to_host(void* host, const void* device, std::size_t bytes) {
  copy_on_device(host, device, bytes);
  synchronize();
}
void fill_bytes(void* device, int value, std::size_t bytes) {
  if (bytes == 0) return;
  emulator::enqueue([=] { std::memset(device, value, bytes); });
}

}  // namespace tl::cuda
