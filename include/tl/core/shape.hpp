// Sizes of a tensor, held by value.
#pragma once
#include <array>
#include <cstdint>
#include <initializer_list>
#include <limits>
#include <string>

#include "tl/core/config.hpp"
#include "tl/core/error.hpp"

namespace tl {

inline constexpr int kMaxRank = 6;

/// Up to six sizes, outermost first. Of a valid Shape neither `numel()` nor any `product()` overflows: the constructor
/// checks.
class Shape {
 public:
  Shape() = default;
  Shape(std::initializer_list<int64_t> sizes) : Shape(sizes.begin(), sizes.end()) {}

  template <class Iterator>
  Shape(Iterator first, Iterator last) {
    for (; first != last; ++first) push_back(static_cast<int64_t>(*first));
  }

  int rank() const { return rank_; }
  int64_t numel() const { return numel_; }

  /// Size of dimension i; a negative i counts from the end, as in `shape[-1]`.
  int64_t operator[](int i) const { return sizes_[static_cast<size_t>(axis(i, "shape"))]; }

  const int64_t* begin() const { return sizes_.data(); }
  const int64_t* end() const { return sizes_.data() + rank_; }

  /// Adds an innermost dimension.
  void push_back(int64_t size) {
    require<ShapeError>(rank_ < kMaxRank, "shape: at most ", kMaxRank, " dimensions");
    require<ShapeError>(size >= 0, "shape: a size must not be negative, got ", size);
    const int64_t factor = size > 0 ? size : 1;  // an empty dimension must not hide that the others overflow
    require<ShapeError>(extent_ <= std::numeric_limits<int64_t>::max() / 16 / factor,
                        "shape: the number of elements overflows");
    sizes_[static_cast<size_t>(rank_++)] = size;
    numel_ *= size;
    extent_ *= factor;
  }

  /// Index of a dimension counted from the front, for i in [-rank, rank).
  int axis(int i, std::string_view operation) const {
    require<ShapeError>(i >= -rank_ && i < rank_, operation, ": axis ", i, " is outside of a tensor with ", rank_,
                        " dimensions");
    return i < 0 ? i + rank_ : i;
  }

  /// The same shape with one size replaced.
  Shape with(int i, int64_t size) const {
    Shape out;
    const int target = axis(i, "shape");
    for (int d = 0; d < rank_; ++d) out.push_back(d == target ? size : sizes_[static_cast<size_t>(d)]);
    return out;
  }

  /// The same shape without one dimension.
  Shape without(int i) const {
    Shape out;
    const int target = axis(i, "shape");
    for (int d = 0; d < rank_; ++d)
      if (d != target) out.push_back(sizes_[static_cast<size_t>(d)]);
    return out;
  }

  /// Product of the sizes of dimensions [first, last).
  int64_t product(int first, int last) const {
    int64_t out = 1;
    for (int d = first; d < last; ++d) out *= sizes_[static_cast<size_t>(d)];
    return out;
  }

  friend bool operator==(const Shape& a, const Shape& b) {
    if (a.rank_ != b.rank_) return false;
    for (int d = 0; d < a.rank_; ++d)
      if (a.sizes_[static_cast<size_t>(d)] != b.sizes_[static_cast<size_t>(d)]) return false;
    return true;
  }

 private:
  std::array<int64_t, kMaxRank> sizes_{};
  int rank_ = 0;
  int64_t numel_ = 1;
  int64_t extent_ = 1;  // product of the sizes that are not 0: the bound of every stride
};

inline void append_text(std::string& out, const Shape& shape) {
  out += '[';
  for (int d = 0; d < shape.rank(); ++d) {
    if (d > 0) out += ", ";
    out += std::to_string(shape[d]);
  }
  out += ']';
}

}  // namespace tl
