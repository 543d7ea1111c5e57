// What tests of kernels share: random operands, guarded results, and a run over all instruction sets and thread counts.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "support.hpp"
#include "tl/core/parallel.hpp"
#include "tl/cpu/kernels.hpp"

namespace tl_test {

/// Numbers between guards, NaN until they are written.
template <class T>
class Guarded {
 public:
  explicit Guarded(int64_t count) : all_(static_cast<size_t>(count + 2 * kGuard), T(12345)), count_(count) {
    std::fill_n(data(), count, std::numeric_limits<T>::quiet_NaN());
  }
  T* data() { return all_.data() + kGuard; }
  int64_t size() const { return count_; }
  T operator[](int64_t i) const { return all_[static_cast<size_t>(kGuard + i)]; }

  bool intact() const {
    for (int64_t i = 0; i < kGuard; ++i)
      if (all_[static_cast<size_t>(i)] != T(12345) || all_[static_cast<size_t>(kGuard + count_ + i)] != T(12345))
        return false;
    return true;
  }
  bool same_bits(const Guarded& other) const {
    return count_ == other.count_ && std::memcmp(all_.data(), other.all_.data(), all_.size() * sizeof(T)) == 0;
  }

 private:
  static constexpr int64_t kGuard = 64;
  std::vector<T> all_;
  int64_t count_;
};

template <class T>
std::vector<T> random_numbers(int64_t count, std::mt19937& random) {
  std::uniform_real_distribution<double> uniform(-1, 1);
  std::vector<T> out(static_cast<size_t>(count));
  for (T& x : out) x = static_cast<T>(uniform(random));
  return out;
}

/// A reference value and the sum of its terms' sizes, which rounding errors are measured against.
struct Reference {
  double value = 0, magnitude = 0;
  void add(double term) {
    value += term;
    magnitude += std::abs(term);
  }
};

/// The largest error in units of what rounding may do in a sum of `terms`; more than 1 is wrong, and so is NaN.
template <class T>
double worst_error(const Guarded<T>& got, const std::vector<Reference>& want, int64_t terms) {
  const double unit =
      static_cast<double>(std::numeric_limits<T>::epsilon()) * (4 + std::sqrt(static_cast<double>(terms)));
  double worst = static_cast<size_t>(got.size()) == want.size() ? 0 : std::numeric_limits<double>::infinity();
  for (int64_t i = 0; i < got.size(); ++i) {
    const Reference& reference = want[static_cast<size_t>(i)];
    const double error = std::abs(static_cast<double>(got[i]) - reference.value) /
                         (unit * std::max(reference.magnitude, static_cast<double>(std::numeric_limits<T>::min())));
    if (!(error <= worst)) worst = error;
    if (std::isnan(error)) return error;
  }
  return worst;
}

/// Calls check(table) for every instruction set of this machine.
template <class T, class Check>
void for_each_isa(Check check) {
  for (const tl::Isa isa : {tl::Isa::baseline, tl::Isa::avx2, tl::Isa::avx512}) {
    if (isa > tl::best_isa() || (sizeof(T) == 8 && isa != tl::Isa::baseline)) continue;
    CAPTURE(tl::name_of(isa));
    check(tl::cpu::kernels_for<T>(isa));
  }
}

/// Runs a kernel with 1, 2 and 3 threads: the guards must be intact, the bits the same, and the values right, to
/// `allowed` times the error of a plain sum.
template <class T, class Run>
void check_result(const std::vector<Reference>& want, int64_t terms, const Guarded<T>& before, Run run,
                  double allowed = 1) {
  Guarded<T> first = before;
  for (const int count : {1, 2, 3}) {
    CAPTURE(count);
    tl::set_threads(count);
    Guarded<T> got = before;
    run(got.data());
    CHECK(got.intact());
    if (count == 1) {
      CHECK(worst_error(got, want, terms) <= allowed);
      first = got;
    } else {
      CHECK(got.same_bits(first));
    }
  }
  tl::set_threads(1);
}

}  // namespace tl_test
