// Optimizers against PyTorch's traces, and their state: by name, gone when frozen, whole when restored.
#include "tl/optim/optimizer.hpp"

#include <bit>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

#include "support.hpp"
#include "tl/nn/freeze.hpp"
#include "tl/nn/linear.hpp"

namespace {

using namespace tl;
using namespace tl_test;
using nlohmann::json;
using optim::ParamGroup;

const json& golden_file() {
  static const json file = json::parse(std::ifstream(golden("optim.json")));
  return file;
}

std::vector<json> cases_of(const std::string& kind) {
  std::vector<json> out;
  for (const json& entry : golden_file()["cases"])
    if (entry["kind"] == kind) out.push_back(entry);
  REQUIRE(!out.empty());
  return out;
}

/// The closed form of golden/README.md.
Tensor wave(const json& spec, double shift = 0, double scale = 1) {
  const auto sizes = spec["shape"].get<std::vector<int64_t>>();
  const Shape shape(sizes.begin(), sizes.end());
  std::vector<float> values;
  for (int64_t i = 0; i < shape.numel(); ++i)
    values.push_back(static_cast<float>(
        scale * spec["c"].get<double>() *
        std::sin(spec["a"].get<double>() + shift + spec["b"].get<double>() * static_cast<double>(i))));
  return Tensor::from(values, shape);
}

/// The two parameters of the golden cases.
struct Pair : nn::Module {
  nn::Parameter w{wave(golden_file()["parameters"]["w"])}, b{wave(golden_file()["parameters"]["b"])};
  TL_MEMBERS(w, b)
};

void set_gradients(nn::Module& net, int64_t step, double scale) {
  const double shift = golden_file()["phase"].get<double>() * static_cast<double>(step);
  for (const auto& p : nn::named_parameters(net))
    p.parameter->value().set_grad(wave(golden_file()["gradients"][p.name], shift, scale));
}

std::unique_ptr<optim::Optimizer> make_optimizer(const std::string& kind, std::vector<ParamGroup> groups,
                                                 const json& options) {
  if (kind == "sgd")
    return std::make_unique<optim::Sgd>(
        std::move(groups),
        optim::SgdOptions{.momentum = options.value("momentum", 0.0), .nesterov = options.value("nesterov", false)});
  const optim::AdamOptions adam{.beta1 = options["betas"][0], .beta2 = options["betas"][1], .eps = options["eps"]};
  if (kind == "adam") return std::make_unique<optim::Adam>(std::move(groups), adam);
  return std::make_unique<optim::AdamW>(std::move(groups), adam);
}

bool near(float got, float want, bool sgd) {
  const int32_t ulps = std::abs(std::bit_cast<int32_t>(got) - std::bit_cast<int32_t>(want));
  return ulps <= 2 || (sgd && std::abs(got - want) <= 1.2e-7f);
}

std::string bytes_of(const Tensor& t) { return {static_cast<const char*>(t.raw_data()), t.bytes()}; }

/// Names and bytes of a state.
std::map<std::string, std::string> bytes_of(const std::vector<optim::NamedState>& state) {
  std::map<std::string, std::string> out;
  for (const auto& entry : state) out[entry.name] = bytes_of(entry.tensor);
  return out;
}

/// Two layers whose gradients are set by hand.
struct Net : nn::Module {
  nn::Linear body{4, 3}, head{3, 2};
  TL_MEMBERS(body, head)

  void gradients(double scale = 1) {
    for (const auto& p : nn::named_parameters(*this)) {
      if (p.parameter->frozen()) continue;
      Tensor grad = Tensor::empty(p.parameter->value().shape());
      float* g = grad.mutable_data<float>();
      for (int64_t i = 0; i < grad.numel(); ++i)
        g[i] = static_cast<float>(scale * std::sin(1.0 + static_cast<double>(i)));
      p.parameter->value().set_grad(grad);
    }
  }
};

}  // namespace

TEST_CASE("Sgd, Adam and AdamW repeat PyTorch's traces") {
  for (const json& trace : cases_of("trace")) {
    const auto kind = trace["optimizer"].get<std::string>(), name = trace["case"].get<std::string>();
    CAPTURE(kind);
    CAPTURE(name);
    Pair net;
    std::map<std::string, ParamGroup> groups;
    for (const auto& p : nn::named_parameters(net)) {
      json options = trace["options"];
      if (trace.contains("groups") && trace["groups"].contains(p.name)) options.update(trace["groups"][p.name]);
      groups[p.name] = {p.name, {p}, options["lr"], options.value("weight_decay", 0.0)};
    }
    const json joins = trace.value("joins", json::object());
    std::vector<ParamGroup> first;
    for (const auto& [parameter, group] : groups)
      if (!joins.contains(parameter)) first.push_back(group);
    const auto optimizer = make_optimizer(kind, first, trace["options"]);
    const double base = trace["options"]["lr"];
    for (size_t t = 0; t < trace["steps"].size(); ++t) {
      for (const auto& [parameter, at] : joins.items())
        if (at == t) optimizer->add_group(groups[parameter]);
      set_gradients(net, static_cast<int64_t>(t), trace["gradient_scale"]);
      optimizer->step(trace.contains("rates") ? trace["rates"][t].get<double>() / base : 1.0);
      for (const auto& p : nn::named_parameters(net)) {
        const auto want = trace["steps"][t][p.name].get<std::vector<float>>();
        const auto got = p.parameter->value().values<float>();
        REQUIRE(got.size() == want.size());
        for (size_t i = 0; i < want.size(); ++i)
          CHECK_MESSAGE(near(got[i], want[i], kind == "sgd"), p.name, "[", i, "] at step ", t, ": ", got[i],
                        ", expected ", want[i]);
      }
    }
  }
}

TEST_CASE("clip_grad_norm scales as PyTorch does, by either norm") {
  for (const json& clip : cases_of("clip")) {
    CAPTURE(clip["case"].get<std::string>());
    Pair net;
    set_gradients(net, 0, clip["gradient_scale"]);
    const auto groups = optim::param_groups(net, 0.1);
    const double norm = optim::clip_grad_norm(groups, clip["max_norm"],
                                              clip["norm_type"] == "inf" ? optim::GradNorm::max : optim::GradNorm::l2);
    CHECK(norm == doctest::Approx(clip["total_norm"].get<double>()).epsilon(1e-6));
    for (const auto& p : nn::named_parameters(net)) {
      const auto want = clip["clipped"][p.name].get<std::vector<double>>();
      for (size_t i = 0; i < want.size(); ++i)
        CHECK(static_cast<double>(p.parameter->value().grad().values<float>()[i]) ==
              doctest::Approx(want[i]).epsilon(1e-6));
    }
  }
}

TEST_CASE("clip_grad_value limits each element; limits must be above 0") {
  Net net;
  net.gradients();
  const auto groups = optim::param_groups(net, 0.1);
  optim::clip_grad_value(groups, 0.5);
  const auto g = net.body.weight.value().grad().values<float>();
  CHECK(g[0] == 0.5f);
  CHECK(g[3] == -0.5f);
  CHECK(g[2] == doctest::Approx(std::sin(3.0)));
  CHECK_THROWS_WITH_AS(optim::clip_grad_value(groups, 0), "clip_grad_value: limit must be above 0, got 0", UsageError);
  CHECK_THROWS_WITH_AS(optim::clip_grad_norm(groups, -1), "clip_grad_norm: max_norm must be above 0, got -1",
                       UsageError);
}

TEST_CASE("a gradient that is not finite shows in the norm and is not spread over the others") {
  Net net;
  net.gradients();
  Tensor bad = net.head.bias.value().grad();
  bad.mutable_data<float>()[0] = std::nanf("");
  const std::string before = bytes_of(net.body.weight.value().grad());
  for (const auto kind : {optim::GradNorm::l2, optim::GradNorm::max})
    CHECK(std::isnan(optim::clip_grad_norm(optim::param_groups(net, 0.1), 1, kind)));
  CHECK(bytes_of(net.body.weight.value().grad()) == before);
}

TEST_CASE("FR02: what is frozen after some steps stays to the bit, has no state and does not count in the norm") {
  for (const std::string kind : {"sgd", "adamw"}) {
    CAPTURE(kind);
    manual_seed(1);
    Net net;
    const auto optimizer = make_optimizer(kind, optim::param_groups(net, 0.1, 0.1),
                                          {{"momentum", 0.9}, {"betas", {0.9, 0.999}}, {"eps", 1e-8}});
    for (int i = 0; i < 3; ++i) {
      net.gradients();
      optimizer->step();
    }
    const int64_t state_of_all = optimizer->state_bytes();
    // Gradients were kept, and must be gone at once.
    REQUIRE(net.body.weight.value().grad().defined());
    freeze(net, "body");
    CHECK(!net.body.weight.value().grad().defined());
    for (const auto& entry : optimizer->state()) CHECK(entry.name.starts_with("head."));
    CHECK(optimizer->state_bytes() == state_of_all * 8 / 23);  // of 15 + 8 numbers

    const std::string weight = bytes_of(net.body.weight.value()), bias = bytes_of(net.body.bias.value());
    const std::string head = bytes_of(net.head.weight.value());
    for (int i = 0; i < 3; ++i) {
      net.gradients();
      double squares = 0;
      for (const auto* p : {&net.head.weight, &net.head.bias})
        for (const float g : p->value().grad().values<float>())
          squares += static_cast<double>(g) * static_cast<double>(g);
      CHECK(optim::clip_grad_norm(optimizer->groups(), 100) == doctest::Approx(std::sqrt(squares)).epsilon(1e-12));
      optimizer->step();
    }
    CHECK(bytes_of(net.body.weight.value()) == weight);
    CHECK(bytes_of(net.body.bias.value()) == bias);
    CHECK(bytes_of(net.head.weight.value()) != head);
  }
}

TEST_CASE("FR02: a layer that was frozen for a while begins anew") {
  manual_seed(1);
  Net net;
  optim::Sgd optimizer(optim::param_groups(net, 0.5), {.momentum = 0.9});
  net.gradients();
  optimizer.step();
  freeze(net, "body");
  net.gradients();
  optimizer.step();
  unfreeze(net, "body");
  const float before = net.body.weight.value().values<float>()[0];
  net.gradients();
  optimizer.step();
  const float grad = net.body.weight.value().grad().values<float>()[0];
  CHECK(net.body.weight.value().values<float>()[0] == doctest::Approx(before - 0.5f * grad));  // no momentum of old
}

TEST_CASE("FR03: state goes by name: the head's moments return to the bit after the body was unfrozen") {
  for (const std::string kind : {"sgd", "adam", "adamw"}) {
    CAPTURE(kind);
    const json options = {{"momentum", 0.9}, {"betas", {0.9, 0.999}}, {"eps", 1e-8}};
    manual_seed(1);
    Net net;
    freeze(net, "body");
    const auto head_only = make_optimizer(kind, optim::param_groups(net, 0.1), options);
    for (int i = 0; i < 3; ++i) {
      net.gradients();
      head_only->step();
    }
    const auto saved = head_only->state();

    // Everything trains now, in two groups and in another order.
    unfreeze(net, "body");
    const auto both = make_optimizer(kind, optim::param_groups(net, {{{"head"}, 0.1}, {{"body"}, 0.01}}), options);
    const auto report = both->load_state(saved);
    CHECK(report.restored == std::vector<std::string>{"head.weight", "head.bias"});
    CHECK(report.fresh == std::vector<std::string>{"body.weight", "body.bias"});
    CHECK(report.removed.empty());
    CHECK(bytes_of(both->state()) == bytes_of(saved));

    // The head goes on as if nothing had happened; the body begins with its own bias correction.
    Net twin;
    for (const auto& [to, from] : {std::pair{&twin.head, &net.head}, std::pair{&twin.body, &net.body}}) {
      to->weight.value().copy_from(from->weight.value());
      to->bias.value().copy_from(from->bias.value());
    }
    const auto fresh = make_optimizer(kind, optim::param_groups(twin, {{{"body"}, 0.01}, {{"head"}, 0.1}}), options);
    net.gradients(2);
    twin.gradients(2);
    both->step();
    fresh->step();
    CHECK(bytes_of(net.body.weight.value()) == bytes_of(twin.body.weight.value()));
    CHECK(bytes_of(net.head.weight.value()) != bytes_of(twin.head.weight.value()));
    for (const auto& entry : both->state())
      if (entry.name.ends_with(":step")) CHECK(entry.tensor.item() == (entry.name.starts_with("head") ? 4 : 1));

    // What is frozen or gone is listed, not matched to something else.
    freeze(net, "head");
    const auto later = make_optimizer(kind, optim::param_groups(net, 0.1), options);
    CHECK(later->load_state(saved).removed == std::vector<std::string>{"head.bias", "head.weight"});
    CHECK(later->state().empty());
  }
}

TEST_CASE("FR03: the state of another optimizer, shape or step is refused, and the one at hand stays") {
  Net net;
  optim::Sgd sgd(optim::param_groups(net, 0.1), {.momentum = 0.9}), plain(optim::param_groups(net, 0.1));
  optim::Adam adam(optim::param_groups(net, 0.1));
  net.gradients();
  sgd.step();
  net.gradients();
  adam.step();
  const auto before = bytes_of(adam.state());
  CHECK_THROWS_WITH_AS(adam.load_state(sgd.state()),
                       "optimizer: the state of body.weight is not this optimizer's (step). "
                       "Hint: was it saved by another kind of optimizer?",
                       StateDictError);
  CHECK_THROWS_AS(sgd.load_state(adam.state()), StateDictError);
  CHECK_THROWS_AS(plain.load_state(sgd.state()), StateDictError);

  auto state = adam.state();
  for (auto& entry : state)
    if (entry.name == "head.bias:second_moment") entry.tensor = Tensor::zeros({3});
  CHECK_THROWS_WITH_AS(adam.load_state(state), "optimizer: second_moment of head.bias must be f32 [2]; got f32 [3]",
                       StateDictError);
  for (auto& entry : state)
    if (entry.name == "head.bias:second_moment") entry.tensor = Tensor::zeros({2}, DType::f64);
  CHECK_THROWS_AS(adam.load_state(state), StateDictError);
  state = adam.state();
  for (auto& entry : state)
    if (entry.name.ends_with(":step")) entry.tensor = Tensor::from<int64_t>({-1}, {});
  CHECK_THROWS_AS(adam.load_state(state), StateDictError);
  for (auto& entry : state)
    if (entry.name.ends_with(":step")) entry.tensor = Tensor::from<int64_t>({1, 2}, {2});
  CHECK_THROWS_AS(adam.load_state(state), Error);
  CHECK_THROWS_AS(adam.load_state({{"nonsense", Tensor::zeros({1})}}), StateDictError);
  CHECK(bytes_of(adam.state()) == before);
}

TEST_CASE("a new head under the old name begins with state of its own") {
  for (const int64_t classes : {2, 5}) {
    manual_seed(1);
    Net net;
    optim::AdamW optimizer(optim::param_groups(net, 0.1));
    net.gradients();
    optimizer.step();
    net.head = nn::Linear(3, classes);
    net.gradients();
    optimizer.step();
    for (const auto& entry : optimizer.state()) {
      if (entry.name == "head.weight:step") CHECK(entry.tensor.item() == 1);
      if (entry.name == "head.weight:first_moment") CHECK(entry.tensor.shape() == Shape{classes, 3});
      if (entry.name == "body.weight:step") CHECK(entry.tensor.item() == 2);
    }
  }
}

TEST_CASE("steps in double precision; parameters without a gradient stay; gradients are kept until zero_grad") {
  manual_seed(1);
  Net net;
  net.to(DType::f64);
  optim::Sgd optimizer(optim::param_groups(net, 0.25, 0.5), {.momentum = 0.9});
  net.body.weight.value().set_grad(Tensor::ones({3, 4}, DType::f64));
  const std::string head = bytes_of(net.head.weight.value());
  const double before = net.body.weight.value().values<double>()[0];
  optimizer.step();
  CHECK(net.body.weight.value().values<double>()[0] ==
        doctest::Approx(before - 0.25 * (1 + 0.5 * before)).epsilon(1e-15));
  CHECK(bytes_of(net.head.weight.value()) == head);
  CHECK(net.body.weight.value().grad().defined());
  optimizer.zero_grad();
  CHECK(!net.body.weight.value().grad().defined());
}

TEST_CASE("options and groups that cannot be meant are refused") {
  Net net;
  const auto groups = optim::param_groups(net, 0.1);
  CHECK_THROWS_AS(optim::Sgd(groups, {.momentum = -0.1}), UsageError);
  CHECK_THROWS_AS(optim::Sgd(groups, {.nesterov = true}), UsageError);
  CHECK_THROWS_AS(optim::Adam(groups, {.beta1 = 1.0}), UsageError);
  CHECK_THROWS_AS(optim::AdamW(groups, {.beta2 = -0.5}), UsageError);
  CHECK_THROWS_AS(optim::Adam(groups, {.eps = -1e-8}), UsageError);
  optim::Sgd sgd(groups);
  CHECK_THROWS_WITH_AS(sgd.add_group(groups[0]), "optimizer: body.weight is in two groups", UsageError);
}
