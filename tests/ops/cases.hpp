// The table of operations: one row per operation and case. It drives values, gradients, instruction sets, threads,
// guards, devices and speed; see table_test.cpp. A new operation or option is a row here, or in network_cases.hpp.
#pragma once
#include "ops/case.hpp"
#include "ops/network_cases.hpp"
#include "tl/ops/dropout.hpp"
#include "tl/ops/elementwise.hpp"
#include "tl/ops/index.hpp"
#include "tl/ops/matmul.hpp"
#include "tl/ops/reduce.hpp"
#include "tl/ops/view.hpp"

namespace tl_test {

namespace cases {

inline Rows arithmetic() {
  struct Function {
    const char* name;
    Tensor (*run)(const Tensor&, const Tensor&);
    double (*value)(double, double);
  };
  const Function functions[] = {
      {"add", tl::operator+, [](double a, double b) { return a + b; }},
      {"subtract", tl::operator-, [](double a, double b) { return a - b; }},
      {"multiply", tl::operator*, [](double a, double b) { return a * b; }},
      {"divide", tl::operator/, [](double a, double b) { return a / b; }},
      {"maximum", tl::maximum, [](double a, double b) { return std::max(a, b); }},
      {"minimum", tl::minimum, [](double a, double b) { return std::min(a, b); }},
  };
  const std::pair<Shape, Shape> shapes[] = {
      {{5}, {5}},   {{2, 3, 17}, {2, 3, 17}}, {{3, 33}, {33}}, {{4, 1}, {1, 5}},   {{2, 3, 4}, {}}, {{2, 1, 3}, {4, 1}},
      {{}, {3, 2}}, {{7, 1, 9}, {7, 4, 9}},   {{0, 4}, {4}},   {{300, 257}, {257}}};
  Rows rows;
  for (const Function& f : functions)
    for (const auto& [a, b] : shapes)
      rows.push_back({tl::text(f.name, " ", a, " ", b),
                      {within(a, -2, 0.4), within(b, 0.5, 2)},
                      [f](const Tensors& x) { return f.run(x[0], x[1]); },
                      [f](const Arrays& x) { return reference::zip(x[0], x[1], f.value); },
                      {.gradcheck = a.numel() < 1000}});
  // Either side may be the larger one.
  for (const Function& f : {functions[4], functions[5]})
    rows.push_back({tl::text(f.name, " mixed"),
                    {distinct({40}), given({40}, std::vector<double>(40, 0.0011))},
                    [f](const Tensors& x) { return f.run(x[0], x[1]); },
                    [f](const Arrays& x) { return reference::zip(x[0], x[1], f.value); }});
  rows.push_back({"multiply by itself",
                  {smooth({9})},
                  [](const Tensors& x) { return x[0] * x[0]; },
                  [](const Arrays& x) { return reference::map(x[0], [](double v) { return v * v; }); }});
  return rows;
}

inline Rows functions() {
  using tl::UnaryFunction;
  struct Function {
    const char* name;
    Tensor (*run)(const Tensor&);
    double (*value)(double);
    double low, high;
    std::vector<double> kinks;
  };
  const std::vector<Function> functions = {
      {"negate", tl::operator-, [](double x) { return -x; }, -2, 2, {}},
      {"neg", [](const Tensor& x) { return tl::unary(UnaryFunction::neg, x); }, [](double x) { return -x; }, -2, 2, {}},
      {"abs", tl::abs, [](double x) { return std::abs(x); }, -2, 2, {0}},
      {"square", tl::square, [](double x) { return x * x; }, -2, 2, {}},
      {"sqrt", tl::sqrt, [](double x) { return std::sqrt(x); }, 0.1, 4, {}},
      {"exp", tl::exp, [](double x) { return std::exp(x); }, -4, 4, {}},
      {"log", tl::log, [](double x) { return std::log(x); }, 0.1, 8, {}},
      {"reciprocal", tl::reciprocal, [](double x) { return 1 / x; }, 0.3, 3, {}},
      {"relu", tl::relu, reference::relu, -2, 2, {0}},
      {"relu6", tl::relu6, reference::relu6, -2, 8, {0, 6}},
      {"gelu", tl::gelu, reference::gelu, -5, 5, {}},
      {"gelu_tanh", tl::gelu_tanh, reference::gelu_tanh, -5, 5, {}},
      {"silu", tl::silu, [](double x) { return x * reference::sigmoid(x); }, -8, 8, {}},
      {"sigmoid", tl::sigmoid, reference::sigmoid, -8, 8, {}},
      {"tanh", tl::tanh, [](double x) { return std::tanh(x); }, -4, 4, {}},
      {"hardswish", tl::hardswish, reference::hardswish, -5, 5, {-3, 3}},
      {"plus number", [](const Tensor& x) { return x + 1.5; }, [](double x) { return x + 1.5; }, -2, 2, {}},
      {"number minus", [](const Tensor& x) { return 1.5 - x; }, [](double x) { return 1.5 - x; }, -2, 2, {}},
      {"minus number", [](const Tensor& x) { return x - 1.5; }, [](double x) { return x - 1.5; }, -2, 2, {}},
      {"times number", [](const Tensor& x) { return 2.5 * x; }, [](double x) { return 2.5 * x; }, -2, 2, {}},
      {"over number", [](const Tensor& x) { return x / 4.0; }, [](double x) { return x / 4; }, -2, 2, {}},
      {"affine", [](const Tensor& x) { return tl::affine(x, 3, -1); }, [](double x) { return 3 * x - 1; }, -2, 2, {}},
  };
  Rows rows;
  for (const Function& f : functions)
    for (const Shape& shape : {Shape{}, Shape{0}, Shape{1}, Shape{7}, Shape{16}, Shape{3, 11}, Shape{300, 333}})
      rows.push_back({tl::text(f.name, " ", shape),
                      {avoiding(shape, f.low, f.high, f.kinks)},
                      [f](const Tensors& x) { return f.run(x[0]); },
                      [f](const Arrays& x) { return reference::map(x[0], f.value); },
                      {.gradcheck = shape.numel() < 1000}});
  const std::pair<tl::Activation, double (*)(double)> activations[] = {
      {tl::Activation::none, [](double x) { return x; }},
      {tl::Activation::relu, reference::relu},
      {tl::Activation::relu6, reference::relu6},
      {tl::Activation::silu, [](double x) { return x * reference::sigmoid(x); }},
      {tl::Activation::gelu, reference::gelu},
      {tl::Activation::hardswish, reference::hardswish}};
  for (const auto& [activation, value] : activations)
    rows.push_back({tl::text("activate ", static_cast<int>(activation)),
                    {avoiding({19}, -5, 8, {-3, 0, 3, 6})},
                    [activation = activation](const Tensors& x) { return tl::activate(x[0], activation); },
                    [value = value](const Arrays& x) { return reference::map(x[0], value); }});
  return rows;
}

inline Rows reductions() {
  struct Function {
    const char* name;
    Tensor (*run)(const Tensor&, std::initializer_list<int>, bool);
    double (*fold)(const std::vector<double>&);
  };
  Rows rows;
  for (const Function& f :
       {Function{"sum", tl::sum, reference::sum_of}, Function{"mean", tl::mean, reference::mean_of}})
    for (const bool keep : {false, true}) {
      const auto add = [&](const Shape& shape, std::initializer_list<int> axes, bool gradcheck = true) {
        std::string name = tl::text(f.name, " ", shape, keep ? " keep" : "", " over");
        for (const int axis : axes) name += tl::text(" ", axis);
        const std::vector<int> list = axes;
        rows.push_back({name,
                        {smooth(shape)},
                        [f, list, keep](const Tensors& x) {
                          switch (list.size()) {
                            case 0:
                              return f.run(x[0], {}, keep);
                            case 1:
                              return f.run(x[0], {list[0]}, keep);
                            case 2:
                              return f.run(x[0], {list[0], list[1]}, keep);
                            default:
                              return f.run(x[0], {list[0], list[1], list[2]}, keep);
                          }
                        },
                        [f, list, keep](const Arrays& x) { return reference::reduce(x[0], list, keep, f.fold); },
                        {.tolerance = gradcheck ? 2e-6 : 8e-6, .gradcheck = gradcheck}});
      };
      add({2, 3, 5}, {}), add({2, 3, 5}, {0}), add({2, 3, 5}, {1}), add({2, 3, 5}, {-1}), add({2, 3, 5}, {0, 2});
      add({2, 3, 5}, {1, 2}), add({2, 3, 5}, {2, 0, 1}), add({3, 2, 4, 3}, {1, 3}), add({}, {}), add({4, 1}, {0});
      add({19, 17}, {0}), add({19, 17}, {1}), add({40, 900}, {0}, false), add({40, 900}, {1}, false);
      add({6, 50, 130}, {0, 1}, false), add({100000}, {}, false);
    }
  rows.push_back({"sum of nothing",
                  {smooth({0, 3})},
                  [](const Tensors& x) { return tl::sum(x[0], {0}); },
                  [](const Arrays&) { return Array(Shape{3}); }});
  const std::pair<const char*, std::pair<Tensor (*)(const Tensor&, int, bool), double (*)(const std::vector<double>&)>>
      extremes[] = {{"max", {tl::max, reference::max_of}}, {"min", {tl::min, reference::min_of}}};
  for (const auto& [name, functions] : extremes)
    for (const int axis : {0, 1, -1})
      for (const Shape& shape : {Shape{2, 3, 5}, Shape{4, 1, 19}, Shape{30, 20, 70}})
        rows.push_back({tl::text(name, " ", shape, " over ", axis),
                        {distinct(shape)},
                        [run = functions.first, axis](const Tensors& x) { return run(x[0], axis, axis == 1); },
                        [fold = functions.second, axis](const Arrays& x) {
                          return reference::reduce(x[0], {axis}, axis == 1, fold);
                        },
                        {.gradcheck = shape.numel() < 1000}});
  for (const int axis : {0, 1, -1})
    rows.push_back({tl::text("argmax over ", axis),
                    {distinct({3, 7, 5}).constant()},
                    [axis](const Tensors& x) { return tl::argmax(x[0], axis); },
                    [axis](const Arrays& x) { return reference::reduce(x[0], {axis}, false, reference::argmax_of); }});
  for (const int64_t k : {0, 1, 3, 23}) {
    rows.push_back({tl::text("top_k ", k, " values"),
                    {distinct({4, 23})},
                    [k](const Tensors& x) { return tl::top_k(x[0], k).values; },
                    [k](const Arrays& x) { return reference::top_k(x[0], k).first; }});
    rows.push_back({tl::text("top_k ", k, " indices"),
                    {distinct({2, 2, 23}).constant()},
                    [k](const Tensors& x) { return tl::top_k(x[0], k).indices; },
                    [k](const Arrays& x) { return reference::top_k(x[0], k).second; }});
  }
  rows.push_back({"sum_to",
                  {smooth({2, 3, 4})},
                  [](const Tensors& x) {
                    return tl::sum_to(x[0], {3, 1});
                  },
                  [](const Arrays& x) {
                    return reference::reshape(reference::reduce(x[0], {0, 2}, false, reference::sum_of), {3, 1});
                  }});
  return rows;
}

inline Rows matrices() {
  Rows rows;
  const auto product = [&](const Shape& a, const Shape& b, bool ta, bool tb, bool gradcheck = true) {
    rows.push_back(
        {tl::text("matmul ", a, ta ? "T " : " ", b, tb ? "T" : ""),
         {smooth(a), smooth(b)},
         [ta, tb](const Tensors& x) { return tl::matmul(x[0], x[1], {.transpose_a = ta, .transpose_b = tb}); },
         [ta, tb](const Arrays& x) { return reference::matmul(x[0], x[1], ta, tb); },
         {.tolerance = 4e-6, .grad_tolerance = 2e-5, .gradcheck = gradcheck}});
  };
  product({1, 1}, {1, 1}, false, false), product({5, 7}, {7, 3}, false, false), product({7, 5}, {7, 3}, true, false);
  product({5, 7}, {3, 7}, false, true), product({7, 5}, {3, 7}, true, true), product({1, 9}, {9, 4}, false, false);
  product({6, 1}, {1, 8}, false, false), product({17, 19}, {19, 18}, false, false),
      product({2, 3, 4}, {4, 5}, false, false);
  product({2, 3, 4}, {2, 4, 5}, false, false), product({2, 4, 3}, {2, 5, 4}, true, true);
  product({2, 4, 3}, {2, 4, 5}, true, false), product({2, 3, 4}, {2, 5, 4}, false, true),
      product({2, 4, 3}, {4, 5}, true, false);
  product({2, 2, 3, 4}, {2, 2, 4, 5}, false, false), product({2, 2, 3, 4}, {5, 4}, false, true);
  product({0, 4}, {4, 3}, false, false), product({3, 0}, {0, 2}, false, false);
  product({130, 70}, {70, 150}, false, false, false), product({70, 130}, {150, 70}, true, true, false);
  product({130, 70}, {150, 70}, false, true, false), product({3, 65, 33}, {3, 65, 47}, true, false, false);
  const auto sum = [&](const Shape& a, const Shape& b, bool tb, double alpha, bool gradcheck = true) {
    const int64_t n = b[tb ? 0 : 1];
    rows.push_back({tl::text("add_matmul ", a, " ", b, tb ? "T" : "", " by ", alpha),
                    {smooth(a.with(-1, n)), smooth(a), smooth(b)},
                    [=](const Tensors& x) { return tl::add_matmul(x[0], x[1], x[2], alpha, {.transpose_b = tb}); },
                    [=](const Arrays& x) {
                      const Array ab = reference::matmul(x[1], x[2], false, tb);
                      return reference::zip(x[0], ab, [=](double c, double p) { return c + alpha * p; });
                    },
                    {.tolerance = 4e-6, .grad_tolerance = 2e-5, .gradcheck = gradcheck}});
  };
  sum({5, 7}, {7, 3}, false, 1), sum({5, 7}, {3, 7}, true, -0.5), sum({2, 3, 4}, {17, 4}, true, 2);
  sum({2, 2, 3, 4}, {4, 5}, false, 2), sum({9, 1}, {1, 8}, false, 0.25), sum({0, 4}, {4, 3}, false, 2);
  sum({130, 8}, {8, 150}, false, 2, false), sum({130, 70}, {150, 70}, true, 2, false);
  const auto dense = [&](const Shape& x, int64_t out, bool bias, bool gradcheck = true) {
    rows.push_back({tl::text("linear ", x, " to ", out, bias ? "" : " no bias"),
                    {smooth(x), smooth({out, x[-1]}).as_parameter(), bias ? smooth({out}).as_parameter() : none()},
                    [](const Tensors& t) { return tl::linear(t[0], t[1], t[2]); },
                    [bias](const Arrays& t) { return reference::linear(t[0], t[1], bias ? &t[2] : nullptr); },
                    {.tolerance = 4e-6, .grad_tolerance = 2e-5, .gradcheck = gradcheck}});
  };
  dense({4, 7}, 3, true), dense({4, 7}, 3, false), dense({7}, 5, true), dense({2, 3, 5}, 17, true),
      dense({1, 33}, 1, true);
  dense({0, 4}, 3, true), dense({65, 130}, 100, true, false);
  for (const bool learning : {false, true})
    for (const int64_t in : {7, 400}) {
      std::vector<Input> inputs{smooth({20, in}), smooth({18, in}).as_parameter(), smooth({18}).as_parameter()};
      if (!learning)
        for (Input& input : inputs) input.differentiable = false;
      rows.push_back(
          {tl::text("linear gelu ", in, learning ? " learning" : ""),
           inputs,
           [](const Tensors& t) { return tl::linear(t[0], t[1], t[2], tl::Activation::gelu); },
           [](const Arrays& t) { return reference::map(reference::linear(t[0], t[1], &t[2]), reference::gelu); },
           {.tolerance = 4e-6, .grad_tolerance = 2e-5, .gradcheck = in < 100}});
    }
  return rows;
}

inline Rows arrangement() {
  Rows rows;
  const auto add = [&](const std::string& name, std::vector<Input> inputs, std::function<Tensor(const Tensors&)> run,
                       std::function<Array(const Arrays&)> reference) {
    const bool small = inputs[0].shape.numel() < 1000;
    rows.push_back({name, std::move(inputs), std::move(run), std::move(reference), {.gradcheck = small}});
  };
  add(
      "gather rows", {smooth({5, 3}), integers({4}, {4, 0, 4, 2})},
      [](const Tensors& t) { return tl::gather(t[0], 0, t[1]); },
      [](const Arrays& t) {
        return reference::select(t[0], 0, {4, 0, 4, 2});
      });
  add(
      "gather middle", {smooth({2, 4, 3}), integers({3}, {3, 3, 1})},
      [](const Tensors& t) { return tl::gather(t[0], 1, t[1]); },
      [](const Arrays& t) {
        return reference::select(t[0], 1, {3, 3, 1});
      });
  add(
      "gather last", {smooth({3, 6}), integers({2}, {5, 0})},
      [](const Tensors& t) { return tl::gather(t[0], -1, t[1]); },
      [](const Arrays& t) {
        return reference::select(t[0], 1, {5, 0});
      });
  add(
      "gather nothing", {smooth({3, 6}), integers({0}, {})}, [](const Tensors& t) { return tl::gather(t[0], 0, t[1]); },
      [](const Arrays&) {
        return Array(Shape{0, 6});
      });
  add(
      "embedding", {smooth({7, 19}), integers({2, 3}, {6, 0, 1, 1, 5, 1})},
      [](const Tensors& t) { return tl::embedding(t[0], t[1]); },
      [](const Arrays& t) {
        return reference::reshape(reference::select(t[0], 0, {6, 0, 1, 1, 5, 1}), {2, 3, 19});
      });
  add(
      "embedding wide", {smooth({300, 130}), integers({6}, {299, 0, 1, 1, 5, 1})},
      [](const Tensors& t) { return tl::embedding(t[0], t[1]); },
      [](const Arrays& t) {
        return reference::select(t[0], 0, {299, 0, 1, 1, 5, 1});
      });
  add(
      "reshape", {smooth({2, 3, 4})},
      [](const Tensors& t) {
        return tl::reshape(t[0], {-1, 6});
      },
      [](const Arrays& t) {
        return reference::reshape(t[0], {4, 6});
      });
  add(
      "flatten", {smooth({2, 3, 4})}, [](const Tensors& t) { return tl::flatten(t[0]); },
      [](const Arrays& t) {
        return reference::reshape(t[0], {2, 12});
      });
  add(
      "flatten a number", {smooth({2})}, [](const Tensors& t) { return tl::flatten(t[0], -1); },
      [](const Arrays& t) { return t[0]; });
  add(
      "permute NHWC to NCHW", {smooth({2, 3, 4, 2})},
      [](const Tensors& t) {
        return tl::permute(t[0], {0, 3, 1, 2});
      },
      [](const Arrays& t) {
        return reference::permute(t[0], {0, 3, 1, 2});
      });
  add(
      "permute cycle", {smooth({3, 2, 5})},
      [](const Tensors& t) {
        return tl::permute(t[0], {2, 0, 1});
      },
      [](const Arrays& t) {
        return reference::permute(t[0], {2, 0, 1});
      });
  add(
      "permute wide", {smooth({4, 33, 65, 7})},
      [](const Tensors& t) {
        return tl::permute(t[0], {0, 2, 1, 3});
      },
      [](const Arrays& t) {
        return reference::permute(t[0], {0, 2, 1, 3});
      });
  add(
      "transpose", {smooth({2, 3, 5})}, [](const Tensors& t) { return tl::transpose(t[0]); },
      [](const Arrays& t) {
        return reference::permute(t[0], {0, 2, 1});
      });
  add(
      "transpose wide", {smooth({130, 70})}, [](const Tensors& t) { return tl::transpose(t[0]); },
      [](const Arrays& t) {
        return reference::permute(t[0], {1, 0});
      });
  add(
      "slice", {smooth({5, 3})}, [](const Tensors& t) { return tl::slice(t[0], 0, 1, 4); },
      [](const Arrays& t) {
        return reference::select(t[0], 0, {1, 2, 3});
      });
  add(
      "slice from the end", {smooth({2, 5, 3})}, [](const Tensors& t) { return tl::slice(t[0], 1, -3, -1); },
      [](const Arrays& t) {
        return reference::select(t[0], 1, {2, 3});
      });
  add(
      "slice with step", {smooth({2, 7})}, [](const Tensors& t) { return tl::slice(t[0], -1, 1, 7, 3); },
      [](const Arrays& t) {
        return reference::select(t[0], 1, {1, 4});
      });
  for (const int axis : {0, 1, -1})
    add(
        tl::text("flip axis ", axis), {smooth({2, 5, 3})}, [axis](const Tensors& t) { return tl::flip(t[0], axis); },
        [axis](const Arrays& t) {
          std::vector<int64_t> order(static_cast<size_t>(t[0].shape[t[0].shape.axis(axis, "flip")]));
          for (size_t i = 0; i < order.size(); ++i) order[i] = static_cast<int64_t>(order.size() - 1 - i);
          return reference::select(t[0], t[0].shape.axis(axis, "flip"), order);
        });
  add(
      "slice nothing", {smooth({2, 7})}, [](const Tensors& t) { return tl::slice(t[0], 1, 3, 3); },
      [](const Arrays&) {
        return Array(Shape{2, 0});
      });
  add(
      "concat rows", {smooth({2, 3}), smooth({1, 3}), smooth({0, 3})},
      [](const Tensors& t) {
        return tl::concat({t[0], t[1], t[2]}, 0);
      },
      [](const Arrays& t) { return reference::concat(t, 0); });
  add(
      "concat channels", {smooth({2, 2, 2, 3}), smooth({2, 2, 2, 1})},
      [](const Tensors& t) {
        return tl::concat({t[0], t[1]}, -1);
      },
      [](const Arrays& t) { return reference::concat(t, -1); });
  add(
      "concat with itself", {smooth({3, 2})},
      [](const Tensors& t) {
        return tl::concat({t[0], t[0]}, 1);
      },
      [](const Arrays& t) {
        return reference::concat({t[0], t[0]}, 1);
      });
  add(
      "pad picture", {smooth({1, 2, 3, 2})},
      [](const Tensors& t) {
        return tl::pad(t[0], {{}, {1, 2}, {0, 1}, {}});
      },
      [](const Arrays& t) {
        return reference::pad(t[0], {{0, 0}, {1, 2}, {0, 1}, {0, 0}}, 0);
      });
  add(
      "pad with a value", {smooth({4})},
      [](const Tensors& t) {
        return tl::pad(t[0], {{2, 1}}, -1.5);
      },
      [](const Arrays& t) {
        return reference::pad(t[0], {{2, 1}}, -1.5);
      });
  add(
      "expand", {smooth({3, 1})},
      [](const Tensors& t) {
        return tl::expand(t[0], {2, 3, 4});
      },
      [](const Arrays& t) {
        return reference::zip(t[0], Array(Shape{2, 3, 4}), [](double a, double) { return a; });
      });
  add(
      "expand to itself", {smooth({3, 1})},
      [](const Tensors& t) {
        return tl::expand(t[0], {3, 1}) * 1.0;
      },
      [](const Arrays& t) { return t[0]; });
  // The mask is what dropout makes of ones; its statistics have a test of their own.
  for (const double p : {0.0, 0.375})  // exact in float, as the kernel has it
    for (const Shape& shape : {Shape{5, 7}, Shape{90, 700}})
      for (const bool path : {false, true}) {
        const auto drop = [=](const Tensor& x) {
          tl::Generator random(7);
          return path ? tl::drop_path(x, p, random) : tl::dropout(x, p, random);
        };
        add(
            tl::text(path ? "drop_path " : "dropout ", p, " ", shape), {smooth(shape)},
            [drop](const Tensors& t) { return drop(t[0]) * 1.0; },
            [drop, p](const Arrays& t) {
              Array y = t[0];
              const Tensor mask = drop(Tensor::ones(y.shape));
              for (int64_t i = 0; i < y.size(); ++i) y[i] *= mask.data<float>()[i] > 0 ? 1 / (1 - p) : 0;
              return y;
            });
      }
  return rows;
}

}  // namespace cases

/// All rows.
inline const std::vector<Row>& rows() {
  static const std::vector<Row> all = [] {
    std::vector<Row> out;
    for (const auto& part :
         {cases::arithmetic(), cases::functions(), cases::reductions(), cases::matrices(), cases::convolutions(),
          cases::pooling(), cases::normalisation(), cases::probabilities(), cases::attentions(), cases::arrangement()})
      out.insert(out.end(), part.begin(), part.end());
    return out;
  }();
  return all;
}

}  // namespace tl_test
