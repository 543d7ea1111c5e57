// Update rules against PyTorch's traces, step by step, and against double precision.
#include <bit>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

#include "cpu/outputs_check.hpp"

namespace {

using namespace tl;
using namespace tl_test;
using nlohmann::json;

/// The closed form of golden/README.md.
std::vector<float> wave(const json& spec, double shift = 0, double scale = 1) {
  int64_t count = 1;
  for (const int64_t size : spec["shape"]) count *= size;
  const double a = spec["a"], b = spec["b"], c = spec["c"];
  std::vector<float> out;
  for (int64_t i = 0; i < count; ++i)
    out.push_back(static_cast<float>(scale * c * std::sin(a + shift + b * static_cast<double>(i))));
  return out;
}

int32_t ulps_apart(float a, float b) { return std::abs(std::bit_cast<int32_t>(a) - std::bit_cast<int32_t>(b)); }

/// The largest distance, in units of the last place, of one trace's parameter.
int32_t replay(const KernelTable<float>& table, const json& head, const json& trace, const std::string& name) {
  json options = trace["options"];
  if (trace.contains("groups") && trace["groups"].contains(name)) options.update(trace["groups"][name]);
  const int64_t joins = trace.contains("joins") ? trace["joins"].value(name, 0) : 0;
  auto weight = wave(head["parameters"][name]);
  std::vector<float> first(weight.size()), second(weight.size());
  const auto n = static_cast<int64_t>(weight.size());
  int32_t worst = 0;
  for (int64_t t = 0; t < static_cast<int64_t>(trace["steps"].size()); ++t) {
    const auto at_step = static_cast<size_t>(t);
    const auto grad =
        wave(head["gradients"][name], head["phase"].get<double>() * static_cast<double>(t), trace["gradient_scale"]);
    const double rate = trace.contains("rates") ? trace["rates"][at_step].get<double>() : options["lr"].get<double>();
    const auto momentum = options.value("momentum", 0.f);
    if (t < joins) continue;
    if (trace["optimizer"] == "sgd") {
      table.sgd({.weight = weight.data(),
                 .grad = grad.data(),
                 .velocity = momentum != 0 ? first.data() : nullptr,
                 .n = n,
                 .rate = static_cast<float>(rate),
                 .momentum = momentum,
                 .weight_decay = options.value("weight_decay", 0.f),
                 .grad_scale = 1,
                 .nesterov = options.value("nesterov", false),
                 .first = t == joins});
    } else {
      table.adam({.weight = weight.data(),
                  .grad = grad.data(),
                  .first_moment = first.data(),
                  .second_moment = second.data(),
                  .n = n,
                  .step = t - joins + 1,
                  .rate = rate,
                  .beta1 = options["betas"][0],
                  .beta2 = options["betas"][1],
                  .eps = options["eps"],
                  .weight_decay = options["weight_decay"],
                  .grad_scale = 1,
                  .decoupled = trace["optimizer"] == "adamw"});
    }
    const std::vector<float> want = trace["steps"][at_step][name];
    for (size_t i = 0; i < want.size(); ++i) worst = std::max(worst, ulps_apart(weight[i], want[i]));
  }
  return worst;
}

}  // namespace

TEST_CASE("PyTorch's traces: SGD to the bit, Adam within one unit in the last place") {
  const json file = json::parse(std::ifstream(golden("optim.json")));
  for_each_isa<float>([&](const KernelTable<float>& table) {
    for (const json& trace : file["cases"]) {
      if (trace["kind"] != "trace") continue;
      const auto optimizer = trace["optimizer"].get<std::string>(), name = trace["case"].get<std::string>();
      CAPTURE(optimizer);
      CAPTURE(name);
      // The rates of one trace are given to twelve digits only.
      const int32_t bound = optimizer == "sgd" ? 0 : trace.contains("rates") ? 2 : 1;
      for (const std::string parameter : {"w", "b"}) CHECK(replay(table, file, trace, parameter) <= bound);
    }
  });
}

TEST_CASE_TEMPLATE("sgd of any size, with a scaled gradient", T, float, double) {
  std::mt19937 random(1);
  for (const int64_t n : {0, 1, 15, 16, 17, 1000, 70001})
    for (const bool momentum : {false, true})
      for (const bool nesterov : {false, true})
        for (const bool first : {false, true}) {
          if (nesterov && !momentum) continue;
          const auto w = random_numbers<T>(n, random), g = random_numbers<T>(n, random),
                     m = random_numbers<T>(n, random);
          Wanted weight, velocity;
          for (int64_t i = 0; i < n; ++i) {
            const double grad = at(g, i) * 0.25 + 0.125 * at(w, i);
            const double moved = momentum && !first ? 0.5 * at(m, i) + grad : grad;
            weight.push_back({at(w, i) - 0.0625 * (nesterov ? grad + 0.5 * moved : moved), 2});
            velocity.push_back({momentum ? moved : at(m, i), 2});
          }
          for_each_isa<T>([&](const KernelTable<T>& table) {
            check_outputs<T>({weight, velocity}, 0, [&](const std::vector<T*>& out) {
              std::copy(w.begin(), w.end(), out[0]);
              // The first step must not read what is there.
              std::fill_n(out[1], n, std::numeric_limits<T>::quiet_NaN());
              if (!first || !momentum) std::copy(m.begin(), m.end(), out[1]);
              table.sgd({.weight = out[0],
                         .grad = g.data(),
                         .velocity = momentum ? out[1] : nullptr,
                         .n = n,
                         .rate = T(0.0625),
                         .momentum = T(0.5),
                         .weight_decay = T(0.125),
                         .grad_scale = T(0.25),
                         .nesterov = nesterov,
                         .first = first});
            });
          });
        }
}

TEST_CASE_TEMPLATE("adam and adamw of any size, with a scaled gradient", T, float, double) {
  std::mt19937 random(2);
  constexpr double kRate = 0.0625, kBeta1 = 0.75, kBeta2 = 0.9375, kEps = 0.0078125, kDecay = 0.125;
  for (const int64_t n : {0, 1, 15, 16, 17, 1000, 70001})
    for (const bool decoupled : {false, true})
      for (const int64_t step : {1, 10}) {
        const auto w = random_numbers<T>(n, random), g = random_numbers<T>(n, random), m = random_numbers<T>(n, random);
        auto v = random_numbers<T>(n, random);
        for (T& value : v) value *= value;
        Wanted weight, first, second;
        const auto t = static_cast<double>(step);
        for (int64_t i = 0; i < n; ++i) {
          const double grad = at(g, i) * 0.25 + (decoupled ? 0 : kDecay * at(w, i));
          const double m1 = kBeta1 * at(m, i) + (1 - kBeta1) * grad,
                       v1 = kBeta2 * at(v, i) + (1 - kBeta2) * grad * grad;
          const double shrunk = at(w, i) * (decoupled ? 1 - kRate * kDecay : 1);
          const double denominator = std::sqrt(v1 / (1 - std::pow(kBeta2, t))) + kEps;
          const double move = kRate / (1 - std::pow(kBeta1, t)) / denominator;
          weight.push_back({shrunk - move * m1, 2 + move * (2 + std::abs(m1))});
          first.push_back({m1, 2});
          second.push_back({v1, 2});
        }
        for_each_isa<T>([&](const KernelTable<T>& table) {
          check_outputs<T>({weight, first, second}, 0, [&](const std::vector<T*>& out) {
            std::copy(w.begin(), w.end(), out[0]);
            std::copy(m.begin(), m.end(), out[1]);
            std::copy(v.begin(), v.end(), out[2]);
            table.adam({.weight = out[0],
                        .grad = g.data(),
                        .first_moment = out[1],
                        .second_moment = out[2],
                        .n = n,
                        .step = step,
                        .rate = kRate,
                        .beta1 = kBeta1,
                        .beta2 = kBeta2,
                        .eps = kEps,
                        .weight_decay = kDecay,
                        .grad_scale = T(0.25),
                        .decoupled = decoupled});
          });
        });
      }
}
