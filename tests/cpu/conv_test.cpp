// Convolutions, forward and backward, against loops in double precision.
#include "cpu/kernel_check.hpp"

namespace {

using tl::Activation;
using tl::ConvGeometry;
using namespace tl_test;

struct Case {
  int64_t n = 1, h = 5, w = 5, cin = 3, cout = 4, kh = 3, kw = 3, groups = 1;
  int64_t stride_h = 1, stride_w = 1, dilation_h = 1, dilation_w = 1;
  int64_t pad_top = 0, pad_left = 0, pad_bottom = 0, pad_right = 0;
  bool bias = false, residual = false;
  Activation activation = Activation::none;
  int64_t winograd_tile = 0;
};

/// By how much more than a plain sum results may be off: what the transforms cost.
double allowed_error(const Case& c) { return c.winograd_tile == 4 ? 40 : c.winograd_tile == 2 ? 4 : 1; }

ConvGeometry geometry_of(const Case& c) {
  const auto out = [](int64_t size, int64_t pads, int64_t kernel, int64_t stride, int64_t dilation) {
    const int64_t room = size + pads - (kernel - 1) * dilation - 1;
    return room < 0 ? 0 : room / stride + 1;
  };
  return {.n = c.n,
          .h = c.h,
          .w = c.w,
          .cin = c.cin,
          .cout = c.cout,
          .kh = c.kh,
          .kw = c.kw,
          .groups = c.groups,
          .oh = out(c.h, c.pad_top + c.pad_bottom, c.kh, c.stride_h, c.dilation_h),
          .ow = out(c.w, c.pad_left + c.pad_right, c.kw, c.stride_w, c.dilation_w),
          .stride_h = c.stride_h,
          .stride_w = c.stride_w,
          .dilation_h = c.dilation_h,
          .dilation_w = c.dilation_w,
          .pad_top = c.pad_top,
          .pad_left = c.pad_left,
          .winograd_tile = c.winograd_tile};
}

/// Calls visit(x, weight, y) with the places of every product that the convolution sums up.
template <class Visit>
void each_product(const ConvGeometry& g, Visit visit) {
  const int64_t group_in = g.cin / g.groups, group_out = g.cout / g.groups;
  for (int64_t image = 0; image < g.n; ++image)
    for (int64_t oy = 0; oy < g.oh; ++oy)
      for (int64_t ox = 0; ox < g.ow; ++ox)
        for (int64_t ky = 0; ky < g.kh; ++ky)
          for (int64_t kx = 0; kx < g.kw; ++kx) {
            const int64_t y = oy * g.stride_h + ky * g.dilation_h - g.pad_top;
            const int64_t x = ox * g.stride_w + kx * g.dilation_w - g.pad_left;
            if (y < 0 || y >= g.h || x < 0 || x >= g.w) continue;
            for (int64_t out = 0; out < g.cout; ++out)
              for (int64_t in = 0; in < group_in; ++in)
                visit(static_cast<size_t>(((image * g.h + y) * g.w + x) * g.cin + out / group_out * group_in + in),
                      static_cast<size_t>(((out * g.kh + ky) * g.kw + kx) * group_in + in),
                      static_cast<size_t>(((image * g.oh + oy) * g.ow + ox) * g.cout + out));
          }
}

template <class T>
void check(const Case& c) {
  const ConvGeometry g = geometry_of(c);
  for (const int64_t number : {g.n, g.h, g.w, g.cin, g.cout, g.kh, g.kw, g.groups, g.stride_h, g.stride_w, g.dilation_h,
                               g.dilation_w, g.pad_top, g.pad_left, g.oh, g.ow})
    INFO(number);
  CAPTURE(c.h);
  CAPTURE(c.w);
  CAPTURE(c.cin);
  CAPTURE(c.cout);
  CAPTURE(c.groups);
  CAPTURE(c.kh);
  CAPTURE(c.kw);
  CAPTURE(c.stride_h);
  CAPTURE(c.stride_w);
  CAPTURE(c.dilation_h);
  CAPTURE(c.dilation_w);
  CAPTURE(c.pad_top);
  CAPTURE(c.pad_left);
  CAPTURE(c.winograd_tile);
  if (c.winograd_tile > 0)
    REQUIRE(tl::conv_path(g) == (c.winograd_tile == 4 ? tl::ConvPath::winograd4 : tl::ConvPath::winograd2));
  const double allowed = allowed_error(c);
  const int64_t size_x = g.n * g.h * g.w * g.cin, size_w = g.cout * g.kh * g.kw * (g.cin / g.groups),
                size_y = g.n * g.oh * g.ow * g.cout;
  std::mt19937 random(static_cast<unsigned>(size_x * 31 + size_w * 7 + size_y));
  const auto x = random_numbers<T>(size_x, random), weight = random_numbers<T>(size_w, random),
             bias = random_numbers<T>(g.cout, random), residual = random_numbers<T>(size_y, random),
             grad_y = random_numbers<T>(size_y, random);

  std::vector<Reference> y(static_cast<size_t>(size_y)), grad_x(static_cast<size_t>(size_x)),
      grad_weight(static_cast<size_t>(size_w)), grad_bias(static_cast<size_t>(g.cout));
  each_product(g, [&](size_t at_x, size_t at_w, size_t at_y) {
    const auto product = [](T a, T b) { return static_cast<double>(a) * static_cast<double>(b); };
    y[at_y].add(product(x[at_x], weight[at_w]));
    grad_x[at_x].add(product(grad_y[at_y], weight[at_w]));
    grad_weight[at_w].add(product(grad_y[at_y], x[at_x]));
  });
  for (size_t i = 0; i < y.size(); ++i) {
    const size_t channel = i % static_cast<size_t>(g.cout);
    grad_bias[channel].add(static_cast<double>(grad_y[i]));
    if (c.bias) y[i].add(static_cast<double>(bias[channel]));
    if (c.residual) y[i].add(static_cast<double>(residual[i]));
    if (c.activation == Activation::relu) y[i].value = std::max(y[i].value, 0.0);
    if (c.activation == Activation::silu) y[i].value = y[i].value / (1 + std::exp(-y[i].value));
  }

  const int64_t taps = g.kh * g.kw, places = g.n * g.oh * g.ow;
  for_each_isa<T>([&](const tl::KernelTable<T>& kernels) {
    Guarded<T> packed(tl::conv_packed_size(g)), unpacked_result(size_y);
    kernels.conv_pack({.geometry = g, .weight = weight.data(), .packed = packed.data()});
    CHECK(packed.intact());
    tl::ConvForwardArgs<T> forward{.geometry = g,
                                   .x = x.data(),
                                   .weight = weight.data(),
                                   .bias = c.bias ? bias.data() : nullptr,
                                   .residual = c.residual ? residual.data() : nullptr,
                                   .y = unpacked_result.data(),
                                   .activation = c.activation};
    kernels.conv_forward(forward);
    forward.packed = packed.data();
    const auto run_forward = [&](T* out) {
      forward.y = out;
      kernels.conv_forward(forward);
    };
    check_result<T>(y, taps * g.cin / g.groups, Guarded<T>(size_y), run_forward, allowed);
    Guarded<T> packed_result(size_y);
    run_forward(packed_result.data());
    CHECK(packed_result.same_bits(unpacked_result));
    check_result<T>(
        grad_x, taps * g.cout / g.groups, Guarded<T>(size_x),
        [&](T* out) {
          kernels.conv_backward_data({.geometry = g, .grad_y = grad_y.data(), .weight = weight.data(), .grad_x = out});
        },
        allowed);
    Guarded<T> got_bias(g.cout);
    check_result<T>(
        grad_weight, places, Guarded<T>(size_w),
        [&](T* out) {
          kernels.conv_backward_weight({.geometry = g,
                                        .grad_y = grad_y.data(),
                                        .x = x.data(),
                                        .grad_weight = out,
                                        .grad_bias = c.bias ? got_bias.data() : nullptr});
        },
        allowed);
    if (c.bias) CHECK(worst_error(got_bias, grad_bias, places) <= 1);
    CHECK(got_bias.intact());
  });
}

}  // namespace

TEST_CASE_TEMPLATE("conv: the kernels of known networks", T, float, double) {
  check<T>({.n = 2,
            .h = 14,
            .w = 15,
            .cin = 16,
            .cout = 20,
            .pad_top = 1,
            .pad_left = 1,
            .pad_bottom = 1,
            .pad_right = 1,
            .residual = true,
            .activation = Activation::relu});
  check<T>({.n = 2,
            .h = 23,
            .w = 21,
            .cin = 3,
            .cout = 33,
            .kh = 7,
            .kw = 7,
            .stride_h = 2,
            .stride_w = 2,
            .pad_top = 3,
            .pad_left = 3,
            .pad_bottom = 3,
            .pad_right = 3,
            .bias = true});
  check<T>(
      {.n = 3, .h = 9, .w = 7, .cin = 18, .cout = 35, .kh = 1, .kw = 1, .bias = true, .activation = Activation::silu});
  check<T>({.n = 2, .h = 9, .w = 8, .cin = 17, .cout = 19, .kh = 1, .kw = 1, .stride_h = 2, .stride_w = 2});
  check<T>(
      {.n = 1, .h = 12, .w = 12, .cin = 24, .cout = 12, .stride_h = 2, .stride_w = 2, .pad_bottom = 1, .pad_right = 1});
}

TEST_CASE_TEMPLATE("conv: many places, so that sums of the weight's gradient come in pieces", T, float, double) {
  check<T>({.n = 3,
            .h = 40,
            .w = 41,
            .cin = 4,
            .cout = 5,
            .pad_top = 1,
            .pad_left = 1,
            .pad_bottom = 1,
            .pad_right = 1,
            .bias = true});
  check<T>({.n = 3, .h = 40, .w = 41, .cin = 4, .cout = 5, .kh = 1, .kw = 1});
  check<T>({.n = 3, .h = 40, .w = 41, .cin = 6, .cout = 6, .groups = 6, .pad_top = 1, .pad_left = 1, .bias = true});
}

TEST_CASE("conv: Winograd's tiles, whole, cut and next to padding") {
  const auto sizes_of = [](int64_t tile) {
    return tile == 2 ? std::vector<std::pair<int64_t, int64_t>>{{2, 12}, {3, 11}, {4, 9}, {5, 3}, {5, 5}}
                     : std::vector<std::pair<int64_t, int64_t>>{{3, 12}, {4, 10}, {5, 12}, {7, 7}, {8, 5}, {11, 8}};
  };
  for (const int64_t tile : {2, 4}) {
    for (const auto& [h, w] : sizes_of(tile))
      check<float>({.n = 9,
                    .h = h,
                    .w = w,
                    .cin = 32,
                    .cout = 35,
                    .pad_top = 1,
                    .pad_left = 1,
                    .pad_bottom = 1,
                    .pad_right = 1,
                    .bias = true,
                    .residual = h % 2 == 0,
                    .activation = w % 3 ? Activation::relu : Activation::silu,
                    .winograd_tile = tile});
    check<float>({.n = 5, .h = 9, .w = 10, .cin = 50, .cout = 40, .winograd_tile = tile});
    check<float>(
        {.n = 3, .h = 11, .w = 12, .cin = 33, .cout = 32, .pad_top = 2, .pad_right = 2, .winograd_tile = tile});
  }
}

TEST_CASE("conv: Winograd over several blocks of tiles, channels and sums") {
  const Case many_tiles{.n = 3, .h = 61, .w = 47, .cin = 36, .cout = 33, .pad_top = 1, .pad_left = 1, .bias = true};
  const Case many_channels{
      .n = 2, .h = 15, .w = 15, .cin = 430, .cout = 420, .pad_top = 1, .pad_left = 1, .bias = true};
  for (Case c : {many_tiles, many_channels})
    for (const int64_t tile : {2, 4}) {
      c.winograd_tile = tile;
      check<float>(c);
    }
}

TEST_CASE_TEMPLATE("conv: depthwise", T, float, double) {
  for (const int64_t kernel : {1, 2, 3, 4, 5, 7})
    for (const int64_t stride : {1, 2, 3})
      for (const int64_t dilation : {1, 2})
        for (const int64_t channels : {3, 16, 35})
          check<T>({.n = 2,
                    .h = 12,
                    .w = 13,
                    .cin = channels,
                    .cout = channels,
                    .kh = kernel,
                    .kw = kernel,
                    .groups = channels,
                    .stride_h = stride,
                    .stride_w = stride,
                    .dilation_h = dilation,
                    .dilation_w = dilation,
                    .pad_top = kernel / 2,
                    .pad_left = kernel / 2,
                    .pad_bottom = kernel / 3,
                    .pad_right = 1,
                    .bias = true,
                    .residual = channels == 16,
                    .activation = channels == 3 ? Activation::silu : Activation::relu});
}

TEST_CASE_TEMPLATE("conv: groups and channel multipliers", T, float, double) {
  check<T>(
      {.h = 6, .w = 6, .cin = 8, .cout = 12, .groups = 4, .pad_top = 1, .pad_left = 1, .bias = true, .residual = true});
  check<T>({.h = 6, .w = 6, .cin = 8, .cout = 12, .kh = 1, .kw = 1, .groups = 2});
  check<T>({.h = 6, .w = 6, .cin = 5, .cout = 10, .groups = 5, .stride_h = 2, .bias = true});
  check<T>({.h = 6, .w = 6, .cin = 1, .cout = 1, .pad_top = 1});
}

TEST_CASE_TEMPLATE("conv: degenerate sizes", T, float, double) {
  check<T>({.n = 0});
  check<T>({.h = 1, .w = 1, .kh = 1, .kw = 1});
  check<T>({.h = 2, .w = 2});  // the kernel does not fit: no place at all
  check<T>({.h = 2, .w = 2, .groups = 1, .pad_top = 5, .pad_left = 5, .pad_bottom = 5, .pad_right = 5});
  check<T>({.h = 7, .w = 3, .kh = 1, .kw = 3, .stride_h = 9, .stride_w = 4});
  check<T>({.n = 0, .cin = 4, .cout = 4, .groups = 4, .bias = true});
  check<T>({.h = 2, .w = 2, .cin = 4, .cout = 4, .groups = 4});
}

TEST_CASE_TEMPLATE("conv: random cases", T, float, double) {
  std::mt19937 random(7);
  const auto from_to = [&](int64_t least, int64_t most) {
    return std::uniform_int_distribution<int64_t>(least, most)(random);
  };
  for (int i = 0; i < 150; ++i) {
    const int64_t groups = from_to(0, 2) ? 1 : from_to(1, 4);
    Case c{.n = from_to(1, 3),
           .h = from_to(1, 14),
           .w = from_to(1, 14),
           .cin = groups * from_to(1, 9),
           .cout = groups * from_to(1, 20),
           .kh = from_to(1, 5),
           .kw = from_to(1, 5),
           .groups = groups,
           .stride_h = from_to(1, 3),
           .stride_w = from_to(1, 3),
           .dilation_h = from_to(1, 3),
           .dilation_w = from_to(1, 3),
           .pad_top = from_to(0, 4),
           .pad_left = from_to(0, 4),
           .pad_bottom = from_to(0, 4),
           .pad_right = from_to(0, 4),
           .bias = from_to(0, 1) == 1,
           .residual = from_to(0, 1) == 1,
           .activation = from_to(0, 1) ? Activation::relu : Activation::none};
    check<T>(c);
  }
}
