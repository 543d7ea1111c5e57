// Pooling against references in double precision.
#include "cpu/outputs_check.hpp"

namespace {

using namespace tl;
using namespace tl_test;

PoolGeometry geometry(int64_t n, int64_t h, int64_t w, int64_t c, int64_t kernel, int64_t stride, int64_t pad,
                      bool ceil = false, bool count_include_pad = true) {
  const auto out = [&](int64_t size) {
    const int64_t span = size + 2 * pad - kernel;
    int64_t count = (ceil ? span + stride - 1 : span) / stride + 1;
    if (ceil && (count - 1) * stride >= size + pad) --count;
    return count;
  };
  return {n, h, w, c, out(h), out(w), kernel, kernel, stride, stride, pad, pad, count_include_pad};
}

std::vector<PoolGeometry> geometries() {
  std::vector<PoolGeometry> out{geometry(1, 1, 1, 1, 1, 1, 0),       geometry(2, 5, 7, 3, 2, 2, 0),
                                geometry(2, 9, 8, 17, 3, 2, 1),      geometry(1, 28, 28, 64, 3, 2, 1),
                                geometry(3, 6, 6, 33, 3, 1, 1),      geometry(2, 7, 7, 130, 7, 1, 0),
                                geometry(1, 8, 9, 5, 3, 2, 1, true), geometry(1, 8, 9, 5, 3, 2, 1, true, false),
                                geometry(2, 5, 5, 4, 2, 3, 0),       geometry(2, 7, 7, 16, 3, 2, 1, false, false),
                                geometry(0, 4, 4, 8, 2, 2, 0),       geometry(2, 6, 6, 20, 5, 2, 2, true)};
  PoolGeometry uneven = geometry(2, 8, 6, 10, 3, 2, 1);  // "same" padding: nothing above, one row below
  uneven.pad_top = uneven.pad_left = 0;
  uneven.count_include_pad = false;
  uneven.oh = 4, uneven.ow = 3;
  out.push_back(uneven);
  PoolGeometry oblong = geometry(1, 9, 12, 7, 3, 2, 1);
  oblong.kw = 4, oblong.stride_w = 3, oblong.ow = 4;
  out.push_back(oblong);
  return out;
}

/// Calls body(flat output pixel, flat input pixel, h * w place, places in the divisor) for all pairs.
template <class Body>
void for_each_pair(const PoolGeometry& g, Body body) {
  for (int64_t n = 0; n < g.n; ++n)
    for (int64_t oh = 0; oh < g.oh; ++oh)
      for (int64_t ow = 0; ow < g.ow; ++ow) {
        int64_t count = 0;
        for (const bool counting : {true, false})
          for (int64_t kh = 0; kh < g.kh; ++kh)
            for (int64_t kw = 0; kw < g.kw; ++kw) {
              const int64_t h = oh * g.stride_h - g.pad_top + kh, w = ow * g.stride_w - g.pad_left + kw;
              const bool inside = h >= 0 && h < g.h && w >= 0 && w < g.w;
              if (counting) count += inside || (g.count_include_pad && h < g.h + g.pad_top && w < g.w + g.pad_left);
              else if (inside) body((n * g.oh + oh) * g.ow + ow, (n * g.h + h) * g.w + w, h * g.w + w, count);
            }
      }
}

}  // namespace

TEST_CASE_TEMPLATE("max pooling forward and backward", T, float, double) {
  std::mt19937 random(1);
  for (const PoolGeometry& g : geometries()) {
    CAPTURE(g.h);
    CAPTURE(g.c);
    CAPTURE(g.kh);
    auto x = random_numbers<T>(g.n * g.h * g.w * g.c, random);
    for (T& value : x) value = std::round(value * 50) - T(100);  // ties, all negative: padding must not win
    const int64_t out = g.n * g.oh * g.ow * g.c;
    Wanted want(static_cast<size_t>(out), Reference{-kInfinity, 0}), want_grad(x.size());
    std::vector<int32_t> want_index(want.size());
    for_each_pair(g, [&](int64_t to, int64_t from, int64_t place, int64_t) {
      for (int64_t c = 0; c < g.c; ++c) {
        Reference& best = want[static_cast<size_t>(to * g.c + c)];
        if (at(x, from * g.c + c) <= best.value) continue;
        best = Reference{at(x, from * g.c + c), 100};
        want_index[static_cast<size_t>(to * g.c + c)] = static_cast<int32_t>(place);
      }
    });
    const auto grad_y = random_numbers<T>(out, random);
    for (int64_t i = 0; i < out; ++i) {
      const int64_t image = i / std::max<int64_t>(g.oh * g.ow * g.c, 1);
      want_grad[static_cast<size_t>((image * g.h * g.w + want_index[static_cast<size_t>(i)]) * g.c + i % g.c)].add(
          at(grad_y, i));
    }
    for_each_isa<T>([&](const KernelTable<T>& table) {
      check_outputs<T>({want}, 0, [&](const std::vector<T*>& y) {
        std::vector<int32_t> index(want_index.size() + 1, -7);
        table.max_pool({.geometry = g, .x = x.data(), .y = y[0], .index = index.data()});
        CHECK(index.back() == -7);
        CHECK(std::equal(want_index.begin(), want_index.end(), index.begin()));
      });
      check_outputs<T>({want}, 0, [&](const std::vector<T*>& y) {
        table.max_pool({.geometry = g, .x = x.data(), .y = y[0], .index = nullptr});
      });
      check_outputs<T>({want_grad}, 0, [&](const std::vector<T*>& grad_x) {
        table.max_pool_backward(
            {.geometry = g, .grad_y = grad_y.data(), .index = want_index.data(), .grad_x = grad_x[0]});
      });
    });
  }
}

TEST_CASE_TEMPLATE("max pooling: NaN wins, and a window of -inf names a place inside", T, float, double) {
  const PoolGeometry g = geometry(1, 2, 4, 1, 2, 2, 0);
  const T nan = std::numeric_limits<T>::quiet_NaN(), low = -std::numeric_limits<T>::infinity();
  const std::vector<T> x{1, nan, low, low, 3, 2, low, low};
  for_each_isa<T>([&](const KernelTable<T>& table) {
    T y[2];
    int32_t index[2];
    table.max_pool({.geometry = g, .x = x.data(), .y = y, .index = index});
    CHECK(std::isnan(y[0]));
    CHECK(index[0] == 1);
    CHECK(y[1] == low);
    CHECK(index[1] == 2);
  });
}

TEST_CASE_TEMPLATE("average pooling forward and backward", T, float, double) {
  std::mt19937 random(2);
  for (const PoolGeometry& g : geometries()) {
    CAPTURE(g.h);
    CAPTURE(g.c);
    CAPTURE(g.kh);
    const auto x = random_numbers<T>(g.n * g.h * g.w * g.c, random);
    const auto grad_y = random_numbers<T>(g.n * g.oh * g.ow * g.c, random);
    Wanted want(grad_y.size()), want_grad(x.size());
    for_each_pair(g, [&](int64_t to, int64_t from, int64_t, int64_t count) {
      for (int64_t c = 0; c < g.c; ++c) {
        want[static_cast<size_t>(to * g.c + c)].add(at(x, from * g.c + c) / static_cast<double>(count));
        want_grad[static_cast<size_t>(from * g.c + c)].add(at(grad_y, to * g.c + c) / static_cast<double>(count));
      }
    });
    for_each_isa<T>([&](const KernelTable<T>& table) {
      check_outputs<T>({want}, g.kh * g.kw,
                       [&](const std::vector<T*>& y) { table.avg_pool({.geometry = g, .x = x.data(), .y = y[0]}); });
      check_outputs<T>({want_grad}, g.kh * g.kw, [&](const std::vector<T*>& grad_x) {
        table.avg_pool_backward({.geometry = g, .grad_y = grad_y.data(), .grad_x = grad_x[0]});
      });
    });
  }
}
