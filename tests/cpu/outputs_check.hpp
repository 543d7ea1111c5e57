// For kernels with one or more results: values, guards, and the same bits from any number of threads.
#pragma once
#include <algorithm>

#include "cpu/kernel_check.hpp"

namespace tl_test {

/// The values that one output must have.
using Wanted = std::vector<Reference>;

/// `count` references, made by `make(i)`, which returns a Reference or a number (whose own size then is its magnitude).
template <class Make>
Wanted wanted(int64_t count, Make make) {
  Wanted out(static_cast<size_t>(count));
  for (int64_t i = 0; i < count; ++i) {
    if constexpr (std::is_same_v<decltype(make(i)), Reference>) out[static_cast<size_t>(i)] = make(i);
    else out[static_cast<size_t>(i)].add(static_cast<double>(make(i)));
  }
  return out;
}

/// Runs `run(std::vector<T*>)`, one pointer for each output, with 1, 2 and 3 threads. Integers must be exact.
template <class T, class Run>
void check_outputs(const std::vector<Wanted>& want, int64_t terms, Run run) {
  std::vector<Guarded<T>> first;
  for (const int count : {1, 2, 3}) {
    CAPTURE(count);
    tl::set_threads(count);
    std::vector<Guarded<T>> got;
    std::vector<T*> pointers;
    for (const Wanted& output : want) got.emplace_back(static_cast<int64_t>(output.size()));
    for (auto& output : got) pointers.push_back(output.data());
    run(pointers);
    for (size_t i = 0; i < got.size(); ++i) {
      CAPTURE(i);
      CHECK(got[i].intact());
      if (count == 1) CHECK(worst_error(got[i], want[i], terms) <= 1);
      else CHECK(got[i].same_bits(first[i]));
    }
    if (count == 1) first = got;
  }
  tl::set_threads(1);
}

inline double at(const std::vector<float>& x, int64_t i) { return static_cast<double>(x[static_cast<size_t>(i)]); }
inline double at(const std::vector<double>& x, int64_t i) { return x[static_cast<size_t>(i)]; }

inline constexpr double kInfinity = std::numeric_limits<double>::infinity();
inline constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

}  // namespace tl_test
