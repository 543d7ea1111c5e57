// Every operation against PyTorch: values and gradients of tests/golden/ops.json, in double and in single precision.
#include <cmath>
#include <fstream>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "ops/isa.hpp"
#include "support.hpp"
#include "tl/autograd/engine.hpp"
#include "tl/ops/attention.hpp"
#include "tl/ops/conv.hpp"
#include "tl/ops/elementwise.hpp"
#include "tl/ops/index.hpp"
#include "tl/ops/loss.hpp"
#include "tl/ops/matmul.hpp"
#include "tl/ops/norm.hpp"
#include "tl/ops/pool.hpp"
#include "tl/ops/reduce.hpp"
#include "tl/ops/softmax.hpp"
#include "tl/ops/view.hpp"

namespace {

using nlohmann::json;
using tl::DType;
using tl::Shape;
using tl::Tensor;

Shape shape_of(const json& sizes) {
  const auto list = sizes.get<std::vector<int64_t>>();
  return Shape(list.begin(), list.end());
}

/// A tensor of ops.json: listed, or in closed form x[i] = d + c sin(a + b i).
Tensor tensor_of(const json& spec, DType floating) {
  const Shape shape = shape_of(spec["shape"]);
  std::vector<double> values(static_cast<size_t>(shape.numel()));
  const std::string dtype = spec.value("dtype", "f64");
  if (spec.contains("values")) {
    for (size_t i = 0; i < values.size(); ++i) {
      const json& value = spec["values"][i];
      values[i] = value.is_boolean() ? static_cast<double>(value.get<bool>()) : value.get<double>();
    }
  } else {
    for (size_t i = 0; i < values.size(); ++i)
      values[i] = spec["d"].get<double>() +
                  spec["c"].get<double>() *
                      std::sin(spec["a"].get<double>() + spec["b"].get<double>() * static_cast<double>(i));
  }
  const DType target = dtype == "f64" ? floating : DType::i32;  // masks are i32 in tl
  return Tensor::from(values, shape).to(target);
}

struct Case {
  const json& spec;
  std::map<std::string, Tensor> inputs;
  std::map<std::string, Tensor> extra;  // filled by the operation

  const json& options() const { return spec["options"]; }
  Tensor& operator[](const std::string& name) { return inputs[name]; }  // undefined when left out
  int axis() const { return options()["axis"].get<int>(); }
  tl::Pair pair(const char* name) const {
    return {options()[name][0].get<int64_t>(), options()[name][1].get<int64_t>()};
  }
  tl::Padding padding() const {
    const json& p = options()["padding"];
    if (p.is_string()) return tl::Padding::same_tf();
    const auto h = p[0].get<int64_t>(), w = p[1].get<int64_t>();
    return {h, w, h, w};
  }
  tl::LossReduction reduction() const {
    const auto name = options()["reduction"].get<std::string>();
    return name == "mean" ? tl::LossReduction::mean : name == "sum" ? tl::LossReduction::sum : tl::LossReduction::none;
  }
};

/// Calls f with a list that is known only at run time as an initializer list.
template <class T, class F>
Tensor with_list(const std::vector<T>& v, F f) {
  switch (v.size()) {
    case 1:
      return f(std::initializer_list<T>{v[0]});
    case 2:
      return f(std::initializer_list<T>{v[0], v[1]});
    case 3:
      return f(std::initializer_list<T>{v[0], v[1], v[2]});
    case 4:
      return f(std::initializer_list<T>{v[0], v[1], v[2], v[3]});
    default:
      throw std::logic_error("lists of 1 to 4 elements");
  }
}

/// Applies f, which works along the last dimension, along another one.
template <class F>
Tensor along(const Tensor& x, int axis, F f) {
  if (axis == -1 || axis == x.rank() - 1) return f(x);
  std::vector<int> order(static_cast<size_t>(x.rank()));
  for (size_t d = 0; d < order.size(); ++d) order[d] = static_cast<int>(d);
  std::swap(order[static_cast<size_t>(axis)], order.back());
  const auto exchange = [&](const Tensor& y) {
    return with_list(order, [&](std::initializer_list<int> list) { return permute(y, list); });
  };
  return exchange(f(exchange(x)));
}

Tensor reduce_axes(Case& c, Tensor (*f)(const Tensor&, std::initializer_list<int>, bool)) {
  return with_list(c.options()["axes"].get<std::vector<int>>(), [&](std::initializer_list<int> axes) {
    return f(c["x"], axes, c.options()["keepdim"].get<bool>());
  });
}

/// The largest over several dimensions, one after another from the last.
Tensor max_axes(Case& c) {
  const auto axes = c.options()["axes"].get<std::vector<int>>();
  Tensor y = c["x"];
  for (size_t i = axes.size(); i-- > 0;) y = max(y, axes[i], c.options()["keepdim"].get<bool>());
  return y;
}

/// Leading sizes that broadcast are repeated first.
Tensor matmul_broadcast(Case& c) {
  const Tensor &a = c["a"], &b = c["b"];
  if (b.rank() == 2 || a.shape().with(-1, 0).with(-2, 0) == b.shape().with(-1, 0).with(-2, 0)) return matmul(a, b);
  const Shape lead = tl::broadcast_shape(Shape(a.shape().begin(), a.shape().end() - 2),
                                         Shape(b.shape().begin(), b.shape().end() - 2), "matmul");
  const auto repeat = [&](const Tensor& x) {
    Shape shape = lead;
    shape.push_back(x.size(-2)), shape.push_back(x.size(-1));
    return expand(x, shape);
  };
  return matmul(repeat(a), repeat(b));
}

Tensor adaptive_avg_pool(Case& c) {
  const Tensor& x = c["x"];
  const tl::Pair size = c.pair("output_size");
  std::vector<Tensor> rows;
  for (int64_t i = 0; i < size.h; ++i) {
    std::vector<Tensor> row;
    for (int64_t j = 0; j < size.w; ++j) {
      const auto first = [](int64_t k, int64_t in, int64_t out) { return k * in / out; };
      const auto last = [](int64_t k, int64_t in, int64_t out) { return ((k + 1) * in + out - 1) / out; };
      const Tensor band = slice(x, 1, first(i, x.size(1), size.h), last(i, x.size(1), size.h));
      row.push_back(mean(slice(band, 2, first(j, x.size(2), size.w), last(j, x.size(2), size.w)), {1, 2}, true));
    }
    rows.push_back(tl::concat(row, 2));
  }
  return tl::concat(rows, 1);
}

/// Elements by index along an axis, as rows of the flattened tensor.
Tensor gather_elements(Case& c) {
  const Tensor &x = c["x"], &indices = c["indices"];
  const int axis = c.axis();
  Tensor places = Tensor::empty({indices.numel()}, DType::i32);
  for (int64_t i = 0; i < indices.numel(); ++i) {
    int64_t rest = i, place = 0, step = 1;  // row-major coordinates of i, with x's strides
    for (int d = x.rank() - 1; d >= 0; --d) {
      const int64_t coordinate = d == axis ? indices.data<int32_t>()[i] : rest % indices.size(d);
      rest /= indices.size(d);
      place += coordinate * step;
      step *= x.size(d);
    }
    places.mutable_data<int32_t>()[i] = static_cast<int32_t>(place);
  }
  return reshape(gather(reshape(x, {-1}), 0, places), indices.shape());
}

Tensor top_k_case(Case& c) {
  const bool largest = c.options()["largest"].get<bool>();
  return along(c["x"], c.axis(), [&](const Tensor& x) {
    const tl::TopK top = top_k(largest ? x : -x, c.options()["k"].get<int64_t>());
    c.extra["indices"] = c.axis() == -1 ? top.indices : transpose(top.indices.to(DType::f64));
    return largest ? top.values : -top.values;
  });
}

/// tl has one weight for the positive class; PyTorch one a column, so column by column.
Tensor bce_with_logits_case(Case& c) {
  if (!c["pos_weight"].defined()) return bce_with_logits(c["x"], c["target"], 1, c.reduction());
  std::vector<Tensor> columns;
  for (int64_t j = 0; j < c["x"].size(1); ++j)
    columns.push_back(bce_with_logits(slice(c["x"], 1, j, j + 1), slice(c["target"], 1, j, j + 1),
                                      c["pos_weight"].to(DType::f64).data<double>()[j], tl::LossReduction::none));
  const Tensor all = tl::concat(columns, 1);
  return c.reduction() == tl::LossReduction::mean  ? mean(all)
         : c.reduction() == tl::LossReduction::sum ? sum(all)
                                                   : all;
}

Tensor batch_norm_case(Case& c) {
  Tensor running_mean = c["running_mean"].clone(), running_var = c["running_var"].clone();
  const Tensor y = batch_norm(c["x"], c["weight"], c["bias"], running_mean, running_var,
                              {.training = c.options()["training"].get<bool>(),
                               .momentum = c.options()["momentum"].get<double>(),
                               .eps = c.options()["eps"].get<double>()});
  c.extra["running_mean"] = running_mean, c.extra["running_var"] = running_var;
  return y;
}

const std::map<std::string, std::function<Tensor(Case&)>>& operations() {
  using tl::PoolOptions;
  const auto pool = [](Case& c) {
    return PoolOptions{.kernel = c.pair("kernel"),
                       .stride = c.pair("stride"),
                       .padding = c.padding(),
                       .ceil_mode = c.options()["ceil_mode"].get<bool>(),
                       .count_include_pad = c.options().value("count_include_pad", true)};
  };
  static const std::map<std::string, std::function<Tensor(Case&)>> all{
      {"add", [](Case& c) { return c["a"] + c["b"]; }},
      {"sub", [](Case& c) { return c["a"] - c["b"]; }},
      {"mul", [](Case& c) { return c["a"] * c["b"]; }},
      {"div", [](Case& c) { return c["a"] / c["b"]; }},
      {"maximum", [](Case& c) { return maximum(c["a"], c["b"]); }},
      {"sum", [](Case& c) { return reduce_axes(c, tl::sum); }},
      {"mean", [](Case& c) { return reduce_axes(c, tl::mean); }},
      {"max", max_axes},
      {"matmul", matmul_broadcast},
      {"linear", [](Case& c) { return linear(c["x"], c["weight"], c["bias"]); }},
      {"conv2d",
       [](Case& c) {
         return conv2d(c["x"], c["weight"], c["bias"],
                       {.stride = c.pair("stride"),
                        .padding = c.padding(),
                        .dilation = c.pair("dilation"),
                        .groups = c.options()["groups"].get<int64_t>()});
       }},
      {"max_pool2d", [pool](Case& c) { return max_pool2d(c["x"], pool(c)); }},
      {"avg_pool2d", [pool](Case& c) { return avg_pool2d(c["x"], pool(c)); }},
      {"adaptive_avg_pool2d", adaptive_avg_pool},
      {"global_avg_pool", [](Case& c) { return global_avg_pool(c["x"]); }},
      {"batch_norm", batch_norm_case},
      {"layer_norm",
       [](Case& c) { return layer_norm(c["x"], c["weight"], c["bias"], c.options()["eps"].get<double>()); }},
      {"relu", [](Case& c) { return relu(c["x"]); }},
      {"relu6", [](Case& c) { return relu6(c["x"]); }},
      {"gelu", [](Case& c) { return c.options()["approximate"] == "tanh" ? gelu_tanh(c["x"]) : gelu(c["x"]); }},
      {"silu", [](Case& c) { return silu(c["x"]); }},
      {"sigmoid", [](Case& c) { return sigmoid(c["x"]); }},
      {"tanh", [](Case& c) { return tanh(c["x"]); }},
      {"hardswish", [](Case& c) { return hardswish(c["x"]); }},
      {"exp", [](Case& c) { return exp(c["x"]); }},
      {"log", [](Case& c) { return log(c["x"]); }},
      {"sqrt", [](Case& c) { return sqrt(c["x"]); }},
      {"softmax", [](Case& c) { return along(c["x"], c.axis(), [](const Tensor& x) { return softmax(x); }); }},
      {"log_softmax", [](Case& c) { return along(c["x"], c.axis(), [](const Tensor& x) { return log_softmax(x); }); }},
      {"cross_entropy",
       [](Case& c) {
         return cross_entropy(c["logits"], c["labels"],
                              {.label_smoothing = c.options()["label_smoothing"].get<double>(),
                               .class_weight = c["weight"],
                               .ignore_index = c.options()["ignore_index"].get<int32_t>(),
                               .reduction = c.reduction()});
       }},
      {"mse_loss", [](Case& c) { return mse_loss(c["x"], c["target"], c.reduction()); }},
      {"bce_with_logits", bce_with_logits_case},
      {"bce", [](Case& c) { return bce_loss(c["x"], c["target"], c.reduction()); }},
      {"embedding", [](Case& c) { return embedding(c["weight"], c["indices"], c.options().value("padding_idx", -1)); }},
      {"index_select", [](Case& c) { return gather(c["x"], c.axis(), c["indices"]); }},
      {"gather", gather_elements},
      {"topk", top_k_case},
      {"attention",
       [](Case& c) {
         return attention(c["query"], c["key"], c["value"],
                          {.key_mask = c["key_mask"],
                           .causal = c.options()["causal"].get<bool>(),
                           .scale = c.options().value("scale", 0.0)});
       }},
      {"concat",
       [](Case& c) {
         std::vector<Tensor> parts;
         for (size_t i = 0; c.inputs.count(tl::text("x", i)) > 0; ++i) parts.push_back(c[tl::text("x", i)]);
         return tl::concat(parts, c.axis());
       }},
      {"slice",
       [](Case& c) {
         return slice(c["x"], c.axis(), c.options()["start"].get<int64_t>(), c.options()["end"].get<int64_t>());
       }},
      {"pad",
       [](Case& c) {
         std::vector<tl::PadWidth> widths;
         for (const json& pair : c.options()["pads"])
           widths.push_back({pair[0].get<int64_t>(), pair[1].get<int64_t>()});
         return with_list(widths, [&](std::initializer_list<tl::PadWidth> list) {
           return pad(c["x"], list, c.options()["value"].get<double>());
         });
       }},
      {"permute",
       [](Case& c) {
         return with_list(c.options()["axes"].get<std::vector<int>>(),
                          [&](std::initializer_list<int> axes) { return permute(c["x"], axes); });
       }},
  };
  return all;
}

struct Tolerance {
  double relative, absolute;
};

/// The first element further off than relative * (|value| + the mean size of all) + absolute, or nothing.
std::string difference(const Tensor& got, const json& expected, const Shape& shape, Tolerance tolerance) {
  if (!got.defined()) return "undefined";
  if (!(got.shape() == shape)) return tl::text("shape ", got.shape(), ", expected ", shape);
  const Tensor wide = got.to(DType::f64);
  double scale = 0;
  for (const json& value : expected) scale += std::abs(value.get<double>()) / static_cast<double>(expected.size());
  for (size_t i = 0; i < expected.size(); ++i) {
    const double value = expected[i].get<double>(), error = std::abs(wide.values<double>()[i] - value);
    if (!(error <= tolerance.relative * (std::abs(value) + scale) + tolerance.absolute))
      return tl::text("element ", i, ": ", wide.values<double>()[i], ", expected ", value, ", off by ", error);
  }
  return "";
}

void check_all(DType floating, const Tolerance& general) {
  TL_NEEDS_ISA();
  TL_NEEDS(tl_test::golden("ops.json"));
  std::ifstream file(tl_test::golden("ops.json"));
  const json golden = json::parse(file);
  REQUIRE(golden["schema"] == 1);
  int checked = 0;
  for (const json& spec : golden["cases"]) {
    const auto op = spec["op"].get<std::string>(), name = spec["case"].get<std::string>();
    CAPTURE(op);
    CAPTURE(name);
    REQUIRE(operations().count(op) == 1);
    Tolerance tolerance = general;
    if (floating == DType::f32 && name == "training_offset") tolerance.relative = 1e-4;  // x = 50 +- 1 cancels
    Case c{spec, {}, {}};
    for (const auto& [input, value] : spec["inputs"].items()) {
      c.inputs[input] = tensor_of(value, floating);
      if (spec["grads"].contains(input)) c.inputs[input].set_requires_grad();
    }
    const Tensor y = operations().at(op)(c);
    CHECK(difference(y, spec["output"], shape_of(spec["output_shape"]), tolerance) == "");
    if (spec.contains("extra"))
      for (const auto& [extra, values] : spec["extra"].items())
        CHECK(difference(c.extra[extra], values, c.extra[extra].shape(), tolerance) == "");
    y.backward(tensor_of(spec["cotangent"], floating));
    for (const auto& gradient : spec["grads"].items()) {
      const std::string input = gradient.key();
      CAPTURE(input);
      CHECK(difference(c[input].grad(), gradient.value(), c[input].shape(), tolerance) == "");
    }
    ++checked;
  }
  CHECK(checked == 266);
}

TEST_CASE("every operation gives PyTorch's values and gradients in double precision") {
  check_all(DType::f64, {6e-9, 1e-15});  // nine digits are listed
}

TEST_CASE("every operation gives PyTorch's values and gradients in single precision") {
  check_all(DType::f32, {5e-6, 5e-8});
}

}  // namespace
