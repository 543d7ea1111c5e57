// The memory cache behind tl::cuda::allocate. Plain C++: where memory really comes from is told to it, so the tests run
// it without a GPU.
//
// Asking the driver for memory takes longer than most kernels, and giving memory back waits for the whole device. So
// the cache asks for large segments, cuts blocks from them, joins neighbours again when they are freed, and keeps all
// of it. A freed block is handed out again only on the stream that it was allocated on: there, work is in order, and
// what still runs on the block is done before what comes next.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <new>
#include <set>
#include <tuple>
#include <unordered_map>

#include "tl/core/error.hpp"
#include "tl/cuda/runtime.hpp"

namespace tl::cuda {

class CachingAllocator {
 public:
  /// Where segments come from. `allocate` returns null when the device is full.
  struct Source {
    void* (*allocate)(std::size_t bytes);
    void (*release)(void* segment);
  };

  explicit CachingAllocator(Source source) : source_(source) {}
  CachingAllocator(const CachingAllocator&) = delete;
  CachingAllocator& operator=(const CachingAllocator&) = delete;
  /// Blocks that are still in use keep their memory; only what is known about them goes.
  ~CachingAllocator() {
    empty_cache();
    for (Block* block : free_) delete block;
    for (const auto& [memory, block] : in_use_) delete block;
  }

  void* allocate(std::size_t bytes, void* stream) {
    if (bytes == 0) return nullptr;
    const std::lock_guard<std::mutex> lock(mutex_);
    require<CudaError>(bytes <= kMostBytes, "cuda: cannot allocate ", bytes, " bytes");
    const std::size_t size = round_up(bytes, kAlignment);
    Block* block = take_cached(size, stream);
    if (block == nullptr) block = take_new(size, stream);
    split(*block, size);
    block->in_use = true;
    in_use_.emplace(block->begin, block);
    statistics_.live_bytes += block->size;
    statistics_.peak_bytes = std::max(statistics_.peak_bytes, statistics_.live_bytes);
    return block->begin;
  }

  /// False if `memory` is not a live block of this allocator.
  bool deallocate(void* memory) noexcept {
    if (memory == nullptr) return true;
    const std::lock_guard<std::mutex> lock(mutex_);
    const auto found = in_use_.find(memory);
    if (found == in_use_.end()) return false;
    Block* block = found->second;
    in_use_.erase(found);
    statistics_.live_bytes -= block->size;
    block->in_use = false;
    if (block->previous != nullptr && !block->previous->in_use) block = join(*block->previous);
    if (block->next != nullptr && !block->next->in_use) block = join(*block);
    free_.insert(block);
    return true;
  }

  /// Gives back every segment of which nothing is in use.
  void empty_cache() noexcept {
    const std::lock_guard<std::mutex> lock(mutex_);
    release_unused();
  }

  MemoryStatistics statistics() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return statistics_;
  }
  void reset_peak() {
    const std::lock_guard<std::mutex> lock(mutex_);
    statistics_.peak_bytes = statistics_.live_bytes;
  }

 private:
  static constexpr std::size_t kAlignment = 512;
  static constexpr std::size_t kSegment = std::size_t{2} << 20;  // driver granularity, and the unit of segments
  static constexpr std::size_t kMostBytes = std::size_t{1} << 46;

  /// A stretch of a segment; its neighbours there are linked.
  struct Block {
    void* begin;
    std::size_t size;
    void* stream;
    Block *previous = nullptr, *next = nullptr;
    bool in_use = false;
  };
  struct BySize {
    bool operator()(const Block* a, const Block* b) const {
      return std::tuple(a->stream, a->size, a->begin) < std::tuple(b->stream, b->size, b->begin);
    }
  };

  static std::size_t round_up(std::size_t n, std::size_t unit) { return (n + unit - 1) / unit * unit; }

  /// The smallest cached block that fits.
  Block* take_cached(std::size_t size, void* stream) {
    Block wanted{nullptr, size, stream};
    const auto found = free_.lower_bound(&wanted);
    if (found == free_.end() || (*found)->stream != stream) return nullptr;
    // A small tensor must not sit for long in the middle of a huge block that the next step wants whole.
    if (size < kSegment / 2 && (*found)->size > kSegment) return nullptr;
    Block* block = *found;
    free_.erase(found);
    return block;
  }

  Block* take_new(std::size_t size, void* stream) {
    const std::size_t segment = round_up(size, kSegment);
    void* memory = source_.allocate(segment);
    if (memory == nullptr) {
      release_unused();
      memory = source_.allocate(segment);
    }
    require<CudaError>(memory != nullptr, "cuda: out of memory: asked the GPU for ", segment, " bytes beside the ",
                       statistics_.live_bytes, " that are in use. Hint: a smaller batch, or bf16");
    ++statistics_.driver_calls;
    statistics_.reserved_bytes += segment;
    return new Block{memory, segment, stream};
  }

  /// Cuts what `block` has beyond `size` off, if it is worth keeping.
  void split(Block& block, std::size_t size) {
    if (block.size - size < kAlignment) return;
    auto* rest =
        new Block{static_cast<std::byte*>(block.begin) + size, block.size - size, block.stream, &block, block.next};
    if (block.next != nullptr) block.next->previous = rest;
    block.next = rest;
    block.size = size;
    free_.insert(rest);
  }

  /// Makes one block of `first` and its successor; neither is in use, and the one that is in the free list leaves it.
  Block* join(Block& first) {
    Block* second = first.next;
    free_.erase(&first);
    free_.erase(second);
    first.size += second->size;
    first.next = second->next;
    if (first.next != nullptr) first.next->previous = &first;
    delete second;
    return &first;
  }

  void release_unused() noexcept {
    for (auto i = free_.begin(); i != free_.end();) {
      Block* block = *i;
      if (block->previous == nullptr && block->next == nullptr) {
        source_.release(block->begin);
        statistics_.reserved_bytes -= block->size;
        i = free_.erase(i);
        delete block;
      } else {
        ++i;
      }
    }
  }

  Source source_;
  mutable std::mutex mutex_;
  std::set<Block*, BySize> free_;
  std::unordered_map<void*, Block*> in_use_;
  MemoryStatistics statistics_;
};

}  // namespace tl::cuda
