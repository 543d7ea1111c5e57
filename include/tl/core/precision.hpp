// In which precision networks compute.
#pragma once
#include <atomic>
#include <optional>
#include <string_view>
#include <utility>

#include "tl/core/cpu_features.hpp"
#include "tl/core/dtype.hpp"
#include "tl/core/error.hpp"

namespace tl {

/// f32: everything in float. bf16: activations, their gradients and packed weights in bfloat16, products summed in
/// float; parameters, their gradients, statistics, losses and updates stay float.
///
/// Operations follow the type of their inputs; the switch says in what type fit, evaluate, features and predictors hand
/// the inputs over. A network of your own takes part by passing on what it gets; see also in_precision.
/// PyTorch: torch.autocast("cpu", torch.bfloat16), which chooses for each operation.
enum class Precision { f32, bf16 };

constexpr std::string_view name_of(Precision precision) { return precision == Precision::f32 ? "f32" : "bf16"; }
constexpr DType activation_dtype(Precision precision) { return precision == Precision::f32 ? DType::f32 : DType::bf16; }

/// Errors: UsageError for anything but f32 and bf16.
inline Precision parse_precision(std::string_view name) {
  for (const Precision each : {Precision::f32, Precision::bf16})
    if (name == name_of(each)) return each;
  fail<UsageError>("precision: expected f32 or bf16, got ", name);
}

/// While it lives, this thread computes in another precision. Errors: UsageError for bf16 without its kernels (see
/// TL_WITH_BF16), or on a processor that would gain nothing by it.
class PrecisionScope {
 public:
  explicit PrecisionScope(Precision precision) : before_(std::exchange(of_thread(), available(precision))) {}
  ~PrecisionScope() { of_thread() = before_; }
  PrecisionScope(const PrecisionScope&) = delete;
  PrecisionScope& operator=(const PrecisionScope&) = delete;

 private:
  friend Precision precision();
  friend void set_precision(Precision);

  static Precision available(Precision precision) {
    require<UsageError>(precision == Precision::f32 || TL_WITH_BF16,
                        "precision bf16: this program was built without its kernels. "
                        "Hint: link tl::compiled, or define TL_WITH_BF16 as 1 in all files.");
    require<UsageError>(precision == Precision::f32 || active_isa() == Isa::avx512,
                        "precision bf16: the kernels need AVX-512, this process computes with ", active_isa(),
                        ". Hint: f32.");
    return precision;
  }
  static std::atomic<Precision>& of_process() {
    static std::atomic<Precision> precision{Precision::f32};
    return precision;
  }
  static std::optional<Precision>& of_thread() {
    static thread_local std::optional<Precision> precision;
    return precision;
  }

  std::optional<Precision> before_;
};

/// The precision of this thread: that of the innermost PrecisionScope, else the process'.
inline Precision precision() {
  return PrecisionScope::of_thread().value_or(PrecisionScope::of_process().load(std::memory_order_relaxed));
}

/// For the whole process. Errors: as PrecisionScope.
inline void set_precision(Precision precision) { PrecisionScope::of_process() = PrecisionScope::available(precision); }

}  // namespace tl
