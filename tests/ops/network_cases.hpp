// Rows of the table of operations: what networks consist of.
#pragma once
#include "ops/case.hpp"
#include "tl/ops/attention.hpp"
#include "tl/ops/conv.hpp"
#include "tl/ops/elementwise.hpp"
#include "tl/ops/loss.hpp"
#include "tl/ops/norm.hpp"
#include "tl/ops/pool.hpp"
#include "tl/ops/softmax.hpp"
#include "tl/ops/view.hpp"

namespace tl_test::cases {

inline Rows convolutions() {
  Rows rows;
  struct Options {
    int64_t cout, kh, kw;
    tl::Conv2dOptions options = {};
    bool bias = true, gradcheck = true;
    double tolerance = 4e-6;
  };
  const auto window = [](const Shape& x, const Options& o) {
    tl::Padding p = o.options.padding;
    if (p.same) {  // ceil(size / stride) outputs; the odd zero comes after
      const auto total = [](int64_t size, int64_t kernel, int64_t stride, int64_t dilation) {
        return std::max<int64_t>(((size + stride - 1) / stride - 1) * stride + dilation * (kernel - 1) + 1 - size, 0);
      };
      const int64_t h = total(x[1], o.kh, o.options.stride.h, o.options.dilation.h);
      const int64_t w = total(x[2], o.kw, o.options.stride.w, o.options.dilation.w);
      p = tl::Padding(h / 2, w / 2, h - h / 2, w - w / 2);
    }
    return reference::Window{o.kh,     o.kw,    o.options.stride.h,   o.options.stride.w,  p.top, p.left,
                             p.bottom, p.right, o.options.dilation.h, o.options.dilation.w};
  };
  const auto weight_of = [](const Shape& x, const Options& o) {
    return smooth({o.cout, o.kh, o.kw, x[3] / o.options.groups}).as_parameter();
  };
  const auto conv = [&](const std::string& name, const Shape& x, const Options& o) {
    const reference::Window w = window(x, o);
    rows.push_back({"conv2d " + name,
                    {smooth(x), weight_of(x, o), o.bias ? smooth({o.cout}).as_parameter() : none()},
                    [o](const Tensors& t) { return tl::conv2d(t[0], t[1], t[2], o.options); },
                    [o, w](const Arrays& t) {
                      return reference::conv2d(t[0], t[1], o.bias ? &t[2] : nullptr, w, o.options.groups);
                    },
                    {.tolerance = o.tolerance, .grad_tolerance = 2e-5, .gradcheck = o.gradcheck}});
  };
  conv("1x1", {2, 3, 4, 5}, {.cout = 3, .kh = 1, .kw = 1});
  conv("1x1 stride 2", {1, 5, 4, 3}, {.cout = 4, .kh = 1, .kw = 1, .options = {.stride = 2}});
  conv("1x1 grouped", {1, 3, 3, 4}, {.cout = 6, .kh = 1, .kw = 1, .options = {.groups = 2}});
  conv("3x3", {2, 5, 4, 3}, {.cout = 4, .kh = 3, .kw = 3});
  conv("3x3 padding 1", {1, 4, 5, 2}, {.cout = 3, .kh = 3, .kw = 3, .options = {.padding = 1}, .bias = false});
  conv("3x3 stride 2 padding 1", {1, 6, 7, 3}, {.cout = 4, .kh = 3, .kw = 3, .options = {.stride = 2, .padding = 1}});
  conv("3x3 one pixel", {2, 1, 1, 3}, {.cout = 2, .kh = 3, .kw = 3, .options = {.padding = 1}});
  conv("3x2 strides 2 and 1", {1, 5, 4, 2},
       {.cout = 2, .kh = 3, .kw = 2, .options = {.stride = {2, 1}, .padding = {1, 0, 1, 0}}});
  conv("uneven padding", {1, 4, 4, 2}, {.cout = 3, .kh = 3, .kw = 3, .options = {.padding = {0, 1, 2, 0}}});
  conv("same stride 2 even", {1, 6, 6, 2},
       {.cout = 2, .kh = 3, .kw = 3, .options = {.stride = 2, .padding = tl::Padding::same_tf()}});
  conv("same stride 2 odd", {1, 5, 7, 2},
       {.cout = 2, .kh = 3, .kw = 3, .options = {.stride = 2, .padding = tl::Padding::same_tf()}});
  conv("same 1x1 stride 3", {1, 5, 7, 2},
       {.cout = 2, .kh = 1, .kw = 1, .options = {.stride = 3, .padding = tl::Padding::same_tf()}});
  conv("dilated", {1, 7, 6, 2}, {.cout = 3, .kh = 3, .kw = 2, .options = {.padding = 1, .dilation = {2, 3}}});
  conv("grouped", {2, 4, 4, 6}, {.cout = 4, .kh = 3, .kw = 3, .options = {.padding = 1, .groups = 2}});
  conv("depthwise", {2, 5, 5, 5}, {.cout = 5, .kh = 3, .kw = 3, .options = {.padding = 1, .groups = 5}});
  conv("depthwise stride 2", {1, 6, 5, 19},
       {.cout = 19, .kh = 3, .kw = 3, .options = {.stride = 2, .padding = 1, .groups = 19}});
  conv("depthwise 5x5 same", {1, 5, 6, 3},
       {.cout = 3, .kh = 5, .kw = 5, .options = {.stride = 2, .padding = tl::Padding::same_tf(), .groups = 3}});
  conv("depthwise dilated", {1, 7, 7, 4},
       {.cout = 4, .kh = 3, .kw = 3, .options = {.padding = 2, .dilation = 2, .groups = 4}});
  conv("depth multiplier", {1, 4, 4, 3}, {.cout = 6, .kh = 3, .kw = 3, .options = {.padding = 1, .groups = 3}});
  conv("one channel", {1, 6, 6, 1}, {.cout = 3, .kh = 5, .kw = 5, .options = {.padding = 2}});
  conv("7x7 stride 2", {1, 9, 9, 3},
       {.cout = 4, .kh = 7, .kw = 7, .options = {.stride = 2, .padding = 3}, .gradcheck = false});
  conv("no pictures", {0, 4, 4, 2}, {.cout = 3, .kh = 3, .kw = 3, .options = {.padding = 1}});
  conv("16 to 32 channels", {2, 14, 14, 16},  // by Winograd's tiles
       {.cout = 32, .kh = 3, .kw = 3, .options = {.padding = 1}, .gradcheck = false, .tolerance = 2e-5});
  conv("1x1 wide", {2, 12, 12, 70}, {.cout = 50, .kh = 1, .kw = 1, .gradcheck = false});
  conv("depthwise wide", {2, 20, 20, 35},
       {.cout = 35, .kh = 3, .kw = 3, .options = {.padding = 1, .groups = 35}, .gradcheck = false});

  // In one pass when nothing wants a gradient, and as separate steps when something does.
  const std::tuple<const char*, tl::Activation, double (*)(double)> activations[] = {
      {"none", tl::Activation::none, [](double x) { return x; }},
      {"relu", tl::Activation::relu, reference::relu},
      {"relu6", tl::Activation::relu6, reference::relu6},
      {"silu", tl::Activation::silu, [](double x) { return x * reference::sigmoid(x); }},
      {"gelu", tl::Activation::gelu, reference::gelu},
      {"hardswish", tl::Activation::hardswish, reference::hardswish}};
  for (const auto& [name, activation, value] : activations)
    for (const bool with_residual : {false, true})
      for (const bool learning : {false, true})
        for (const Options& o : {Options{.cout = 18, .kh = 3, .kw = 3, .options = {.padding = 1}},
                                 Options{.cout = 6, .kh = 3, .kw = 3, .options = {.padding = 1, .groups = 6}},
                                 Options{.cout = 5, .kh = 1, .kw = 1}}) {
          const Shape shape{1, 4, 5, 6};
          const reference::Window w = window(shape, o);
          std::vector<Input> inputs{smooth(shape), weight_of(shape, o), smooth({o.cout}).as_parameter(),
                                    with_residual ? smooth({1, 4, 5, o.cout}) : none()};
          if (!learning)
            for (Input& input : inputs) input.differentiable = false;
          rows.push_back(
              {tl::text("conv2d_fused ", name, with_residual ? " residual" : "", learning ? " learning " : " ", o.cout),
               inputs,
               [o, activation = activation](const Tensors& t) {
                 return tl::conv2d_fused(t[0], t[1], t[2], t[3], activation, o.options);
               },
               [o, w, with_residual, value = value](const Arrays& t) {
                 Array y = reference::conv2d(t[0], t[1], &t[2], w, o.options.groups);
                 if (with_residual) y = reference::zip(y, t[3], [](double a, double b) { return a + b; });
                 return reference::map(y, value);
               },
               {.tolerance = 4e-6, .grad_tolerance = 2e-5, .gradcheck = o.cout < 18, .crosses_kinks = true}});
        }
  return rows;
}

inline Rows pooling() {
  Rows rows;
  const auto add = [&](const std::string& name, const Shape& x, const tl::PoolOptions& o, int64_t oh, int64_t ow) {
    const tl::Pair stride(o.stride.h == 0 ? o.kernel.h : o.stride.h, o.stride.w == 0 ? o.kernel.w : o.stride.w);
    const reference::Window w{o.kernel.h,    o.kernel.w,     stride.h,         stride.w,
                              o.padding.top, o.padding.left, o.padding.bottom, o.padding.right};
    const bool small = x.numel() < 1000;
    rows.push_back({"max_pool2d " + name,
                    {distinct(x)},
                    [o](const Tensors& t) { return tl::max_pool2d(t[0], o); },
                    [=](const Arrays& t) {
                      return reference::pool2d(t[0], w, oh, ow,
                                               [](const auto& inside, int64_t) { return reference::max_of(inside); });
                    },
                    {.gradcheck = small}});
    for (const bool include : {true, false}) {
      tl::PoolOptions average = o;
      average.count_include_pad = include;
      rows.push_back({tl::text("avg_pool2d ", name, include ? "" : " without padding"),
                      {smooth(x)},
                      [average](const Tensors& t) { return tl::avg_pool2d(t[0], average); },
                      [=](const Arrays& t) {
                        return reference::pool2d(t[0], w, oh, ow, [include](const auto& inside, int64_t window) {
                          return reference::sum_of(inside) /
                                 static_cast<double>(include ? window : static_cast<int64_t>(inside.size()));
                        });
                      },
                      {.gradcheck = small}});
    }
  };
  add("2x2", {2, 4, 6, 3}, {}, 2, 3);
  add("2x2 odd", {1, 5, 7, 2}, {.kernel = 2, .stride = 2}, 2, 3);
  add("3x3 stride 2 padding 1", {1, 7, 6, 3}, {.kernel = 3, .stride = 2, .padding = 1}, 4, 3);
  add("3x3 stride 2 ceil", {1, 6, 8, 2}, {.kernel = 3, .stride = 2, .ceil_mode = true}, 3, 4);
  add("2x2 stride 3 padding 1 ceil", {1, 5, 4, 2}, {.kernel = 2, .stride = 3, .padding = 1, .ceil_mode = true}, 2, 2);
  add("3x2 overlapping", {1, 6, 5, 2}, {.kernel = {3, 2}, .stride = {1, 2}, .padding = {1, 0, 1, 0}}, 6, 2);
  add("1x1", {1, 2, 2, 5}, {.kernel = 1}, 2, 2);
  add("17 channels", {1, 4, 4, 17}, {}, 2, 2);
  add("no pictures", {0, 4, 4, 3}, {}, 2, 2);
  add("wide", {3, 30, 31, 40}, {.kernel = 3, .stride = 2, .padding = 1}, 15, 16);
  rows.push_back({"global_avg_pool",
                  {smooth({2, 3, 5, 7})},
                  [](const Tensors& t) { return tl::global_avg_pool(t[0]); },
                  [](const Arrays& t) {
                    return reference::reduce(t[0], {1, 2}, false, reference::mean_of);
                  }});
  rows.push_back({"global_avg_pool wide",
                  {smooth({4, 7, 7, 260})},
                  [](const Tensors& t) { return tl::global_avg_pool(t[0]); },
                  [](const Arrays& t) {
                    return reference::reduce(t[0], {1, 2}, false, reference::mean_of);
                  },
                  {.gradcheck = false}});
  return rows;
}

inline Rows normalisation() {
  Rows rows;
  const std::tuple<const char*, tl::Activation, double (*)(double)> activations[] = {
      {"", tl::Activation::none, [](double x) { return x; }},
      {" relu", tl::Activation::relu, reference::relu},
      {" relu6", tl::Activation::relu6, reference::relu6}};
  const auto batch = [&](const Shape& shape, bool training, bool scaled, bool with_residual, const auto& activation) {
    const auto& [label, kind, value] = activation;
    const Shape channels{shape[-1]};
    rows.push_back(
        {tl::text("batch_norm ", shape, training ? " training" : " evaluation", scaled ? "" : " plain",
                  with_residual ? " residual" : "", label),
         {within(shape, -1, 3), scaled ? within(channels, 0.5, 1.5).as_parameter() : none(),
          scaled ? smooth(channels).as_parameter() : none(), with_residual ? smooth(shape) : none(),
          within(channels, 0, 1).constant().as_parameter(), within(channels, 0.5, 2).constant().as_parameter()},
         [training, kind = kind](const Tensors& t) {
           Tensor mean = t[4].clone(), variance = t[5].clone();
           return tl::batch_norm(t[0], t[1], t[2], mean, variance,
                                 {.training = training, .eps = 1e-3, .activation = kind}, t[3]);
         },
         [training, scaled, with_residual, value = value](const Arrays& t) {
           auto [mean, variance] = reference::channel_statistics(t[0]);
           if (!training) mean = t[4].values, variance = t[5].values;
           Array y =
               reference::normalise(t[0], mean, variance, scaled ? &t[1] : nullptr, scaled ? &t[2] : nullptr, 1e-3);
           if (with_residual) y = reference::zip(y, t[3], [](double a, double b) { return a + b; });
           return reference::map(y, value);
         },
         {.tolerance = 4e-6, .grad_tolerance = 4e-5, .gradcheck = shape.numel() < 1000}});
  };
  for (const bool training : {true, false})
    for (const auto& activation : activations)
      for (const bool with_residual : {false, true}) {
        batch({2, 3, 2, 5}, training, true, with_residual, activation);
        batch({7, 3}, training, false, with_residual, activation);
        batch({3, 9, 10, 37}, training, true, with_residual, activation);
      }
  for (const bool variance : {false, true})
    rows.push_back({tl::text("batch_norm running ", variance ? "variance" : "mean"),
                    {within({2, 3, 2, 5}, -1, 3).constant(), within({5}, 0, 1).constant().as_parameter(),
                     within({5}, 0.5, 2).constant().as_parameter()},
                    [variance](const Tensors& t) {
                      Tensor mean = t[1].clone(), var = t[2].clone();
                      tl::batch_norm(t[0], {}, {}, mean, var, {.training = true, .momentum = 0.25});
                      return variance ? var : mean;
                    },
                    [variance](const Arrays& t) {
                      const auto [mean, biased] = reference::channel_statistics(t[0]);
                      Array out = variance ? t[2] : t[1];
                      for (size_t c = 0; c < 5; ++c)
                        out.values[c] = 0.75 * out.values[c] + 0.25 * (variance ? biased[c] * 12 / 11 : mean[c]);
                      return out;
                    }});
  const auto layer = [&](const Shape& shape, bool scaled, bool with_residual = false) {
    const Shape width{shape[-1]};
    rows.push_back({tl::text("layer_norm ", shape, scaled ? "" : " plain", with_residual ? " residual" : ""),
                    {within(shape, -1, 3), scaled ? within(width, 0.5, 1.5).as_parameter() : none(),
                     scaled ? smooth(width).as_parameter() : none(), with_residual ? smooth(shape) : none()},
                    [](const Tensors& t) { return tl::layer_norm(t[0], t[1], t[2], 1e-3, t[3]); },
                    [scaled, with_residual](const Arrays& t) {
                      const auto sum = [](double a, double b) { return a + b; };
                      return reference::layer_norm(with_residual ? reference::zip(t[0], t[3], sum) : t[0],
                                                   scaled ? &t[1] : nullptr, scaled ? &t[2] : nullptr, 1e-3);
                    },
                    {.tolerance = 4e-6, .grad_tolerance = 4e-5, .gradcheck = shape.numel() < 1000}});
  };
  layer({5, 7}, true), layer({5, 7}, false), layer({2, 3, 33}, true), layer({9}, true), layer({2, 2}, false);
  layer({0, 4}, true), layer({100, 300}, true);
  layer({5, 7}, true, true), layer({2, 3, 33}, false, true), layer({0, 4}, true, true), layer({100, 300}, true, true);
  return rows;
}

inline Rows probabilities() {
  Rows rows;
  for (const bool logarithm : {false, true})
    for (const Shape& shape :
         {Shape{4, 7}, Shape{2, 3, 17}, Shape{9}, Shape{3, 1}, Shape{5, 33}, Shape{0, 3}, Shape{90, 1000}})
      rows.push_back({tl::text(logarithm ? "log_softmax " : "softmax ", shape),
                      {within(shape, -3, 3)},
                      [logarithm](const Tensors& t) { return logarithm ? tl::log_softmax(t[0]) : tl::softmax(t[0]); },
                      [logarithm](const Arrays& t) { return reference::softmax(t[0], logarithm); },
                      {.tolerance = 4e-6, .grad_tolerance = 2e-5, .gradcheck = shape.numel() < 1000}});
  rows.push_back({"softmax of far apart logits",
                  {given({2, 4}, {1000, 999, -1000, 0, -80, -80, -81, -79})},
                  [](const Tensors& t) { return tl::softmax(t[0]); },
                  [](const Arrays& t) { return reference::softmax(t[0]); }});

  for (const auto& [name, reduction] : {std::pair{"mean", tl::LossReduction::mean},
                                        {"sum", tl::LossReduction::sum},
                                        {"none", tl::LossReduction::none}}) {
    const auto reduced = [reduction = reduction](const Array& losses, double divisor) {
      if (reduction == tl::LossReduction::none) return losses;
      Array out(Shape{}, reference::sum_of(losses.values));
      if (reduction == tl::LossReduction::mean) out[0] = divisor > 0 ? out[0] / divisor : 0;
      return out;
    };
    for (const double smoothing : {0.0, 0.1, 1.0})
      for (const bool weighted : {false, true})
        for (const bool ignoring : {false, true})
          rows.push_back({tl::text("cross_entropy ", name, " smoothing ", smoothing, weighted ? " weighted" : "",
                                   ignoring ? " ignoring" : ""),
                          {within({6, 19}, -3, 3), integers({6}, {0, 18, ignoring ? 7.0 : 3.0, 5, 7, 7}),
                           weighted ? within({19}, 0.2, 2).constant().as_parameter() : none()},
                          [=, reduction = reduction](const Tensors& t) {
                            return tl::cross_entropy(t[0], t[1],
                                                     {.label_smoothing = smoothing,
                                                      .class_weight = t[2],
                                                      .ignore_index = ignoring ? 7 : -100,
                                                      .reduction = reduction});
                          },
                          [=](const Arrays& t) {
                            const auto [losses, divisor] = reference::cross_entropy(
                                t[0], t[1], weighted ? &t[2] : nullptr, smoothing, ignoring ? 7 : -100);
                            return reduced(losses, divisor);
                          },
                          {.tolerance = 4e-6, .grad_tolerance = 2e-5}});
    rows.push_back(
        {tl::text("FR08: cross_entropy ", name, " all ignored"),
         {smooth({3, 4}), integers({3}, {-100, -100, -100})},
         [reduction = reduction](const Tensors& t) { return tl::cross_entropy(t[0], t[1], {.reduction = reduction}); },
         [=](const Arrays&) { return reduced(Array(Shape{3}), 0); }});
    for (const double smoothing : {0.0, 0.1})
      for (const bool weighted : {false, true})
        rows.push_back({tl::text("soft_cross_entropy ", name, " smoothing ", smoothing, weighted ? " weighted" : ""),
                        {within({6, 19}, -3, 3), within({6, 19}, 0, 0.2).constant(),
                         weighted ? within({19}, 0.2, 2).constant().as_parameter() : none()},
                        [=, reduction = reduction](const Tensors& t) {
                          return tl::soft_cross_entropy(
                              t[0], t[1], {.label_smoothing = smoothing, .class_weight = t[2], .reduction = reduction});
                        },
                        [=](const Arrays& t) {
                          const Array log_p = reference::softmax(t[0], true);
                          Array losses(Shape{6});
                          for (int64_t i = 0; i < 6 * 19; ++i) {
                            const double target = (1 - smoothing) * t[1][i] + smoothing / 19;
                            losses[i / 19] -= target * (weighted ? t[2][i % 19] : 1) * log_p[i];
                          }
                          return reduced(losses, 6);
                        },
                        {.tolerance = 4e-6, .grad_tolerance = 2e-5}});
    rows.push_back({tl::text("mse_loss ", name),
                    {smooth({4, 5}), smooth({4, 5})},
                    [reduction = reduction](const Tensors& t) { return tl::mse_loss(t[0], t[1], reduction); },
                    [=](const Arrays& t) {
                      return reduced(reference::zip(t[0], t[1], [](double a, double b) { return (a - b) * (a - b); }),
                                     20);
                    }});
    for (const double positive : {1.0, 3.0})
      rows.push_back({tl::text("bce_with_logits ", name, " weight ", positive),
                      {within({4, 5}, -4, 4), within({4, 5}, 0, 1).constant()},
                      [positive, reduction = reduction](const Tensors& t) {
                        return tl::bce_with_logits(t[0], t[1], positive, reduction);
                      },
                      [=](const Arrays& t) {
                        return reduced(
                            reference::zip(t[0], t[1],
                                           [positive](double x, double y) {
                                             const double p = reference::sigmoid(x);
                                             return -(positive * y * std::log(p) + (1 - y) * std::log(1 - p));
                                           }),
                            20);
                      },
                      {.tolerance = 4e-6, .grad_tolerance = 2e-5}});
    rows.push_back({tl::text("bce_loss ", name),
                    {within({4, 5}, 0.1, 0.9), within({4, 5}, 0, 1).constant()},
                    [reduction = reduction](const Tensors& t) { return tl::bce_loss(t[0], t[1], reduction); },
                    [=](const Arrays& t) {
                      return reduced(reference::zip(t[0], t[1],
                                                    [](double p, double y) {
                                                      return -(y * std::log(p) + (1 - y) * std::log(1 - p));
                                                    }),
                                     20);
                    },
                    {.tolerance = 4e-6, .grad_tolerance = 2e-5}});
  }
  // logits [[1,2,3],[3,2,1]], labels [2,1], weights [1,.5,.25]
  rows.push_back(
      {"FR08: cross_entropy weighted mean",
       {given({2, 3}, {1, 2, 3, 3, 2, 1}), integers({2}, {2, 1}), given({3}, {1, 0.5, 0.25}).constant().as_parameter()},
       [](const Tensors& t) { return tl::cross_entropy(t[0], t[1], {.class_weight = t[2]}); },
       [](const Arrays&) {
         const double lse = std::log(std::exp(1) + std::exp(2) + std::exp(3));
         return Array(Shape{}, ((lse - 3) * 0.25 + (lse - 2) * 0.5) / 0.75);
       }});
  return rows;
}

inline Rows attentions() {
  Rows rows;
  const auto add = [&](const std::string& name, const Shape& q, int64_t keys, int64_t width, std::vector<double> mask,
                       bool causal, double scale = 0, bool gradcheck = true) {
    const bool masked = !mask.empty();
    rows.push_back({"attention " + name,
                    {smooth(q), smooth(q.with(2, keys)), smooth(q.with(2, keys).with(3, width)),
                     masked ? integers({q[0], keys}, std::move(mask)) : none()},
                    [=](const Tensors& t) {
                      return tl::attention(t[0], t[1], t[2], {.key_mask = t[3], .causal = causal, .scale = scale});
                    },
                    [=](const Arrays& t) {
                      return reference::attention(t[0], t[1], t[2], masked ? &t[3] : nullptr, causal,
                                                  scale != 0 ? scale : 1 / std::sqrt(static_cast<double>(q[3])));
                    },
                    {.tolerance = 4e-6, .grad_tolerance = 2e-5, .gradcheck = gradcheck}});
  };
  add("plain", {2, 2, 4, 3}, 4, 3, {}, false);
  add("causal", {1, 2, 5, 3}, 5, 4, {}, true);
  add("cross", {1, 2, 3, 3}, 5, 2, {}, false);
  add("masked", {2, 2, 3, 3}, 3, 3, {1, 1, 0, 1, 0, 0}, false);
  add("masked causal", {2, 1, 3, 3}, 3, 3, {1, 1, 0, 0, 1, 1}, true);
  add("nothing to see", {2, 1, 2, 3}, 2, 3, {0, 0, 1, 1}, false);
  add("scaled", {1, 1, 2, 3}, 3, 3, {}, false, 0.25);
  add("one token", {1, 2, 1, 3}, 1, 3, {}, false);
  add("long", {2, 4, 70, 33}, 70, 33, {}, true, 0, false);
  std::vector<double> some;  // of two samples: the first block of the second sees nothing
  for (int i = 0; i < 600; ++i) some.push_back(i % 7 != 0 && (i < 300 || i > 430));
  add("blocks", {2, 2, 150, 9}, 300, 20, some, false, 0, false);
  add("blocks causal", {2, 1, 300, 16}, 300, 16, some, true, 0, false);
  add("blocks never seen", {1, 1, 5, 3}, 300, 2, {}, true, 0, false);

  const auto side_by_side = [&](const Shape& q, int64_t keys, int64_t width, int64_t heads, bool causal) {
    const auto apart = [heads](const Array& x) {
      return reference::permute(reference::reshape(x, {x.shape[0], x.shape[1], heads, x.shape[2] / heads}),
                                {0, 2, 1, 3});
    };
    rows.push_back(
        {tl::text("multi_head_attention ", q, causal ? " causal" : ""),
         {smooth(q), smooth(q.with(1, keys)), smooth(q.with(1, keys).with(2, width))},
         [=](const Tensors& t) { return tl::multi_head_attention(t[0], t[1], t[2], heads, {.causal = causal}); },
         [=](const Arrays& t) {
           const double scale = 1 / std::sqrt(static_cast<double>(q[2] / heads));
           const Array y = reference::attention(apart(t[0]), apart(t[1]), apart(t[2]), nullptr, causal, scale);
           return reference::reshape(reference::permute(y, {0, 2, 1, 3}), {q[0], q[1], width});
         },
         {.tolerance = 4e-6, .grad_tolerance = 2e-5, .gradcheck = q.numel() < 1000}});
  };
  side_by_side({2, 4, 6}, 4, 6, 2, false), side_by_side({2, 3, 6}, 5, 9, 3, false),
      side_by_side({1, 5, 4}, 5, 4, 1, true);
  side_by_side({2, 130, 64}, 140, 96, 2, false);
  return rows;
}

}  // namespace tl_test::cases
