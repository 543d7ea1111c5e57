// What TL_SHARED declares in the emulator: an array that looks like a C array and checks every index.
#pragma once

#include <cstddef>
#include <string>

#include "emulator.hpp"

namespace tl::emulator {

template <class Array>
class SharedView;

template <class T, std::size_t N>
class SharedView<T[N]> {
 public:
  SharedView(T (*array)[N], const char* name) : array_(array), name_(name) {}

  template <class Index>
  decltype(auto) operator[](Index index) const {
    const auto i = static_cast<std::size_t>(index);  // a negative index becomes a huge one
    if (i >= N) {
      fail("index " + std::to_string(static_cast<long long>(index)) + " is outside of shared array '" + name_ +
           "', whose extent there is " + std::to_string(N));
    }
    return element((*array_)[i]);
  }

 private:
  template <class Row, std::size_t M>
  SharedView<Row[M]> element(Row (&row)[M]) const {
    return {&row, name_};
  }
  template <class Scalar>
  Scalar& element(Scalar& scalar) const {
    return scalar;
  }

  T (*array_)[N];
  const char* name_;
};

/// Dynamic shared memory as elements of T.
template <class T>
class DynamicSharedView {
 public:
  DynamicSharedView() : elements_(reinterpret_cast<T*>(dynamic_shared(&bytes_))) {}

  template <class Index>
  T& operator[](Index index) const {
    const auto i = static_cast<std::size_t>(index);
    if (i >= bytes_ / sizeof(T)) {
      fail("index " + std::to_string(static_cast<long long>(index)) +
           " is outside of dynamic shared memory, which holds " + std::to_string(bytes_ / sizeof(T)) + " elements");
    }
    return elements_[i];
  }

 private:
  std::size_t bytes_ = 0;
  T* elements_;
};

}  // namespace tl::emulator
