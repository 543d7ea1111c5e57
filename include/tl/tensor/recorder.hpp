// Writing work down instead of doing it: what capture (autograd/capture.hpp) needs of the layers below it.
//
// Everything that reads or writes numbers is a step: a kernel, or a loop of the host's given to perform(). A step is a
// closure over plain addresses. Whatever is worked out outside of steps (shapes, which kernel, which tensor) is the
// same in every replay.
#pragma once
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <type_traits>
#include <utility>

#include "tl/core/config.hpp"
#include "tl/core/error.hpp"

namespace tl::inline TL_ABI {

class Storage;
struct AutogradMeta;

namespace detail {

/// While one is current, the steps of this thread are told to it and not done.
class Recorder {
 public:
  virtual ~Recorder() = default;

  /// A step, as call(closure). Tensors whose addresses are among the closure's bytes are used by it.
  virtual void add(std::string_view name, void (*call)(const void*), std::span<const std::byte> closure) = 0;

  /// Memory for a new storage and what keeps it alive; nullptr leaves it to the allocator.
  virtual void* allocate(const Storage& storage, std::shared_ptr<const void>& owner) = 0;
  virtual void released(const Storage& storage) noexcept = 0;

  /// Somebody asked for the address of a tensor's numbers: a step that follows, or else an error.
  virtual void touched(const std::shared_ptr<Storage>& storage, bool writes) = 0;
  /// The storage was filled by the host with numbers that are the same in every replay.
  virtual void constant(const std::shared_ptr<Storage>& storage) = 0;
  /// Something was derived from the content of this storage and kept: the record is good while it stays.
  virtual void derived_from(const std::shared_ptr<Storage>& storage) = 0;
  /// The gradient of a leaf is about to be added to, or to be replaced.
  virtual void gradient_of(const std::shared_ptr<AutogradMeta>& leaf, bool replaced) = 0;

  static Recorder*& current() {
    static thread_local Recorder* recorder = nullptr;
    return recorder;
  }
};

/// Not inlined, as a program has hundreds of places that do steps or ask for addresses.
TL_NOINLINE inline void perform_bytes(std::string_view name, void (*step)(const void*), const void* closure,
                                      size_t bytes) {
  if (Recorder* const recorder = Recorder::current())
    recorder->add(name, step, {static_cast<const std::byte*>(closure), bytes});
  else step(closure);
}

/// Does a step of work, or tells it to the recorder. It runs in each replay, from a copy of its bytes: it holds
/// addresses and options by value.
template <class Step>
void perform(std::string_view name, const Step& step) {
  static_assert(std::is_trivially_copyable_v<Step>);
  perform_bytes(
      name, [](const void* closure) { (*static_cast<const Step*>(closure))(); }, &step, sizeof(Step));
}

TL_NOINLINE inline void tell_touched(const std::shared_ptr<Storage>& storage, bool writes) {
  if (Recorder* const recorder = Recorder::current()) recorder->touched(storage, writes);
}

/// For what cannot be part of a record. Errors: UsageError while this thread records.
TL_NOINLINE inline void refuse_while_recording(std::string_view operation, std::string_view hint) {
  require<UsageError>(Recorder::current() == nullptr, operation,
                      ": not possible inside of a captured function, whose numbers are computed later, in each replay. "
                      "Hint: ",
                      hint);
}

/// While it lives, this thread works at once also when a recorder is current: for what outlives the record, such as
/// packed weights that a layer keeps.
class Aside {
 public:
  Aside() : recorder_(std::exchange(Recorder::current(), nullptr)) {}
  ~Aside() { Recorder::current() = recorder_; }
  Aside(const Aside&) = delete;
  Aside& operator=(const Aside&) = delete;

 private:
  Recorder* recorder_;
};

/// A number for all that steers functions beside the numbers in tensors: modes and freezing of modules, which tensors
/// want gradients, and where tensors have their memory. Equal numbers mean that nothing has changed.
class Configuration {
 public:
  static uint64_t number() { return now().load(std::memory_order_relaxed); }
  static void changed() { exchange(); }

  /// The numbers before and after a change that will be undone.
  struct Change {
    uint64_t before, after;
  };
  static Change exchange() {
    const uint64_t after = 1 + count().fetch_add(1, std::memory_order_relaxed);
    return {now().exchange(after, std::memory_order_relaxed), after};
  }
  /// All of the change was undone; with no other one since, everything is as it was before it.
  static void undone(Change change) {
    if (!now().compare_exchange_strong(change.after, change.before)) changed();
  }

 private:
  static std::atomic<uint64_t>& now() {
    static std::atomic<uint64_t> number{0};
    return number;
  }
  static std::atomic<uint64_t>& count() {
    static std::atomic<uint64_t> changes{0};
    return changes;
  }
};

}  // namespace detail
}  // namespace tl::inline TL_ABI
