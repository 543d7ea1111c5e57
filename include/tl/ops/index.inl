// Definitions of ops/index.hpp.
#pragma once
#include <span>

#include "tl/autograd/function.hpp"
#include "tl/ops/index.hpp"

namespace tl::inline TL_ABI {
namespace detail {

/// Rows of x, seen as [rows, cols], at `index`, as a tensor of shape `result`.
struct GatherRows {
  static constexpr std::string_view kName = "gather";
  Tensor index;
  int64_t rows, cols, skip;
  Shape result, input;

  Tensor forward(const Needs&, const Tensor& x) {
    input = x.shape();
    Tensor y = Tensor::empty(result, x.dtype(), x.device());
    visit_floating(x.dtype(), kName, [&](auto type) {
      using T = typename decltype(type)::type;
      kernel::gather_rows(x.device(), GatherRowsArgs<T>{.x = x.data<T>(),
                                                        .index = index.data<int32_t>(),
                                                        .y = y.mutable_data<T>(),
                                                        .count = index.numel(),
                                                        .rows = rows,
                                                        .cols = cols});
    });
    return y;
  }

  Gradients backward(const Needs&, const Tensor& grad_y) const {
    Tensor grad_x = Tensor::zeros(input, grad_y.dtype(), grad_y.device());
    visit_floating(grad_y.dtype(), kName, [&](auto type) {
      using T = typename decltype(type)::type;
      kernel::scatter_add_rows(grad_y.device(), ScatterAddRowsArgs<T>{.y = grad_y.data<T>(),
                                                                      .index = index.data<int32_t>(),
                                                                      .x = grad_x.mutable_data<T>(),
                                                                      .count = index.numel(),
                                                                      .rows = rows,
                                                                      .cols = cols,
                                                                      .skip = static_cast<int32_t>(skip)});
    });
    return {grad_x};
  }
};

TL_INLINE void check_indices(std::string_view operation, const Tensor& index, int64_t size) {
  require<DTypeError>(index.dtype() == DType::i32, operation, ": indices must be i32, got ", index.dtype());
  require<ShapeError>(size <= std::numeric_limits<int32_t>::max(), operation, ": at most 2^31 - 1 rows, got ", size);
  const Tensor host = index.to(kCpu);
  perform("check indices", [operation, indices = host.data<int32_t>(), count = host.numel(), size] {
    for (const int32_t i : std::span(indices, static_cast<size_t>(count)))
      require<UsageError>(i >= 0 && i < size, operation, ": an index must be in [0, ", size, "), got ", i);
  });
}

}  // namespace detail

TL_INLINE Tensor gather(const Tensor& x, int axis, const Tensor& index) {
  const int d = x.shape().axis(axis, "gather");
  require<ShapeError>(index.rank() == 1, "gather: index must be [K]; got ", index.shape());
  detail::check_indices("gather", index, x.size(d));
  const int64_t outer = x.shape().product(0, d), inner = x.shape().product(d + 1, x.rank());
  Tensor rows = index;
  if (outer > 1) {  // one row for each (outer, index)
    require<ShapeError>(outer * x.size(d) <= std::numeric_limits<int32_t>::max(), "gather: ", x.shape(),
                        " has too many rows");
    const Tensor host = index.to(kCpu);
    rows = Tensor::empty({outer * index.numel()}, DType::i32);
    detail::perform("rows of gather", [to = rows.mutable_data<int32_t>(), from = host.data<int32_t>(), outer,
                                       count = host.numel(), size = x.size(d)] {
      int32_t* row = to;
      for (int64_t o = 0; o < outer; ++o)
        for (int64_t i = 0; i < count; ++i) *row++ = static_cast<int32_t>(o * size) + from[i];
    });
    rows = rows.to(x.device());
  }
  return apply(detail::GatherRows{rows, outer * x.size(d), inner, -1, x.shape().with(d, index.numel()), {}}, x);
}

TL_INLINE Tensor embedding(const Tensor& table, const Tensor& ids, int64_t padding_idx) {
  require<ShapeError>(table.rank() == 2, "embedding: table must be [V, D]; got ", table.shape());
  require<UsageError>(padding_idx >= -1 && padding_idx < table.size(0), "embedding: padding_idx must be in [0, ",
                      table.size(0), ") or -1, got ", padding_idx);
  detail::check_indices("embedding", ids, table.size(0));
  Shape result = ids.shape();
  result.push_back(table.size(1));
  return apply(detail::GatherRows{ids, table.size(0), table.size(1), padding_idx, result, {}}, table);
}

}  // namespace tl::inline TL_ABI
