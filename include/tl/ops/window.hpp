// How windows slide over a picture: shared by convolution and pooling.
#pragma once
#include <algorithm>
#include <cstdint>
#include <string_view>

#include "tl/core/error.hpp"

namespace tl::inline TL_ABI {
namespace detail {

/// Output size and zeros in front along one direction, for windows of `kernel` over `size`.
struct WindowAxis {
  int64_t out, before;

  WindowAxis(std::string_view operation, int64_t size, int64_t kernel, int64_t stride, int64_t dilation, int64_t front,
             int64_t back, bool same) {
    require<UsageError>(stride >= 1 && dilation >= 1 && kernel >= 1 && front >= 0 && back >= 0, operation,
                        ": kernel, stride and dilation must be at least 1 and padding at least 0; got ", kernel, ", ",
                        stride, ", ", dilation, " and ", front, ", ", back);
    const int64_t reach = dilation * (kernel - 1) + 1;
    if (same) {
      out = (size + stride - 1) / stride;
      before = std::max<int64_t>((out - 1) * stride + reach - size, 0) / 2;
    } else {
      require<ShapeError>(size + front + back >= reach, operation, ": a window of ", reach, " does not fit into ", size,
                          " + padding ", front + back);
      out = (size + front + back - reach) / stride + 1;
      before = front;
    }
  }
};

}  // namespace detail
}  // namespace tl::inline TL_ABI
