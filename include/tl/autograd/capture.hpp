// Work of fixed shape recorded once and replayed: no shape checks, no allocation, no graph, and least memory.
//
//     Capture predict([&](const Tensor& x) { return net(x); });
//     for (...) use(predict(x));                            // the first call records, all calls replay
//
//     Capture step([&](const std::vector<Tensor>& in) {     // a training step, gradients included
//       const Tensor loss = cross_entropy(net(in[0]), in[1]);
//       loss.backward();
//       return std::vector{loss};
//     });
//     for (...) { step.run({x, y}); optimizer.step(); optimizer.zero_grad(); }
#pragma once
#include <concepts>
#include <functional>
#include <memory>
#include <vector>

#include "tl/tensor/tensor.hpp"

namespace tl::inline TL_ABI {

namespace detail {
class Record;
}

struct CaptureOptions {
  /// Where a function cannot be recorded, call it as it is instead of throwing.
  bool lenient = false;
};

/// What a record holds. Bytes are of tensors; parameters and whatever else existed before do not count.
struct CaptureReport {
  int64_t steps = 0;            ///< kernels and other loops over numbers
  int64_t buffers = 0;          ///< tensors that are needed within the function alone
  int64_t requested_bytes = 0;  ///< of all those buffers together
  int64_t planned_bytes = 0;    ///< of the block of memory that they share
  int64_t result_bytes = 0;     ///< inputs, results, gradients and constants, which have memory of their own
};

/// A function of tensors that is recorded at its first call and replayed at every one: its kernels run with the
/// arguments that they had, on memory that was planned by lifetimes. A call has the effect of a call of the function,
/// bit for bit: results, gradients of leaves, running statistics, random numbers.
///
/// Recording calls the function twice without computing anything, first for the lifetimes of its tensors and then for
/// the steps, and costs little more than what it saves in a few replays. It is done anew, by itself, when something
/// changed on which the record depends: shapes and types of inputs, whether gradients are recorded, the precision,
/// modes and freezing of modules, a parameter's memory, weights of which a frozen layer keeps a packed copy, gradients
/// that were there before (which are added to) or not.
///
/// What the function decides by other means is decided once, when it is recorded: a schedule, a random choice, an
/// option of a layer. Results and gradients are overwritten by the next call: clone() what should last. Results have no
/// history; call backward inside of the function. Tensors that the function uses without being given them are read
/// where they are. Observers of modules see nothing of a replay.
///
/// Errors: UsageError if the function reads or writes numbers itself (item(), values(), loops over data()), steps an
/// optimizer, or does not repeat itself, and for inputs that want gradients; DeviceError for tensors on CUDA. They come
/// before anything was computed.
/// PyTorch equivalent: torch.cuda.make_graphed_callables, for the CPU, with guards as torch.compile has.
class Capture {
 public:
  using Function = std::function<std::vector<Tensor>(const std::vector<Tensor>&)>;

  explicit Capture(Function function, const CaptureOptions& options = {});

  /// For a function of one tensor with one result.
  template <class F>
  requires(std::is_invocable_r_v<Tensor, F&, const Tensor&> &&
           !std::is_invocable_v<F&, const std::vector<Tensor>&>) explicit Capture(F function,
                                                                                  const CaptureOptions& options = {})
      : Capture(Function([f = std::move(function)](const std::vector<Tensor>& inputs) mutable {
                  return std::vector<Tensor>{f(inputs.at(0))};
                }),
                options) {}

  ~Capture();
  Capture(Capture&&) noexcept;
  Capture& operator=(Capture&&) noexcept;

  /// The function's results for these inputs, which are copied into the record's own.
  std::vector<Tensor> run(const std::vector<Tensor>& inputs = {});
  Tensor operator()(const Tensor& x) { return run({x}).at(0); }

  /// Whether the last call was a replay; false before the first one, and where a lenient capture gave up.
  bool recorded() const { return record_ != nullptr; }
  /// Of the record. Errors: UsageError before there is one.
  CaptureReport report() const;
  /// Bytes of memory that the function's tensors share. Errors: UsageError before there is a record.
  int64_t planned_bytes() const { return report().planned_bytes; }

 private:
  Function function_;
  CaptureOptions options_;
  std::unique_ptr<detail::Record> record_;
  bool refused_ = false;
};

}  // namespace tl::inline TL_ABI

#if TL_HEADER_ONLY
#include "tl/autograd/capture.inl"
#endif
