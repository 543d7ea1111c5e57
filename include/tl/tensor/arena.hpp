// Where large blocks of host memory come from.
#pragma once
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <map>
#include <set>
#include <utility>

#include "tl/core/config.hpp"

namespace tl::inline TL_ABI {
namespace detail {

/// Cuts blocks from one reserved range of addresses: the smallest free piece that holds a block serves it, and free
/// neighbours are joined again. Pages stay with the process until trim(), as fresh ones cost more than the arithmetic
/// on them; a training step that repeats finds all of its blocks where it left them.
///
/// Sizes are multiples of kUnit. Not synchronised.
class Arena {
 public:
  static constexpr size_t kUnit = 4096;

  Arena() {
    const long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    if (pages <= 0 || page <= 0) return;
    const size_t wanted = static_cast<size_t>(pages) * static_cast<size_t>(page) / kHugePage * kHugePage;
    void* const range =
        mmap(nullptr, wanted + kHugePage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (range == MAP_FAILED) return;
    range_ = range;
    range_bytes_ = wanted + kHugePage;
    const uintptr_t at = reinterpret_cast<uintptr_t>(range);
    base_ = static_cast<char*>(range) + (kHugePage - at % kHugePage) % kHugePage;
    size_ = wanted;
#if defined(MADV_HUGEPAGE)
    madvise(base_, size_, MADV_HUGEPAGE);
#endif
  }
  ~Arena() {
    if (range_) munmap(range_, range_bytes_);
  }
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  /// nullptr if there is no room.
  void* allocate(size_t bytes) {
    const auto fit = by_size_.lower_bound({bytes, 0});
    if (fit != by_size_.end()) {
      const auto piece = free_.find(fit->second);
      const size_t offset = piece->first, size = piece->second.size, resident = piece->second.resident;
      erase(piece);
      if (size > bytes) insert(offset + bytes, {size - bytes, resident - std::min(resident, bytes)});
      return base_ + offset;
    }
    size_t offset = top_;
    if (const auto last = last_at_top(); last != free_.end()) {
      if (last->first + bytes > size_) return nullptr;
      offset = last->first;
      erase(last);
    } else if (bytes > size_ - top_) {
      return nullptr;
    }
    top_ = offset + bytes;
    return base_ + offset;
  }

  void release(void* data, size_t bytes) {
    size_t offset = static_cast<size_t>(static_cast<char*>(data) - base_);
    Piece piece{bytes, bytes};
    const auto after = free_.lower_bound(offset);
    if (after != free_.begin()) {
      const auto before = std::prev(after);
      if (before->first + before->second.size == offset) {
        offset = before->first;
        piece.add(before->second);
        erase(before);
      }
    }
    if (after != free_.end() && offset + piece.size == after->first) {
      piece.add(after->second);
      erase(after);
    }
    insert(offset, piece);
  }

  /// Gives the pages of free pieces back to the system.
  void trim() {
    if (const auto last = last_at_top(); last != free_.end()) {
      madvise(base_ + last->first, last->second.size, MADV_DONTNEED);
      top_ = last->first;
      erase(last);
    }
    for (auto& [offset, piece] : free_) {
      if (piece.resident > 0) madvise(base_ + offset, piece.size, MADV_DONTNEED);
      piece.resident = 0;
    }
    resident_ = 0;
  }

  bool owns(const void* data) const { return data >= base_ && data < base_ + size_; }
  /// Bytes of free pieces that are likely to have pages.
  size_t free_bytes() const { return resident_; }

 private:
  static constexpr size_t kHugePage = size_t{2} << 20;

  struct Piece {
    size_t size, resident;
    void add(const Piece& other) { size += other.size, resident += other.resident; }
  };
  using Pieces = std::map<size_t, Piece>;  // by offset

  Pieces::iterator last_at_top() {
    if (free_.empty()) return free_.end();
    const auto last = std::prev(free_.end());
    return last->first + last->second.size == top_ ? last : free_.end();
  }
  void insert(size_t offset, const Piece& piece) {
    const auto at = free_.emplace(offset, piece).first;
    by_size_.emplace(at->second.size, offset);
    resident_ += piece.resident;
  }
  void erase(Pieces::iterator at) {
    by_size_.erase({at->second.size, at->first});
    resident_ -= at->second.resident;
    free_.erase(at);
  }

  void* range_ = nullptr;  // what was reserved; blocks are cut from its first huge page on
  size_t range_bytes_ = 0;
  char* base_ = nullptr;
  size_t size_ = 0, top_ = 0;  // no block reaches beyond top_
  size_t resident_ = 0;
  Pieces free_;
  std::set<std::pair<size_t, size_t>> by_size_;  // (size, offset)
};

}  // namespace detail
}  // namespace tl::inline TL_ABI
