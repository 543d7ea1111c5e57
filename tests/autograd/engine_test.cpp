// The backward pass: graphs of every shape, memory, misuse.
#include <cstring>
#include <new>
#include <vector>

#include "support.hpp"
#include "tl/autograd/engine.hpp"
#include "tl/autograd/function.hpp"
#include "tl/autograd/gradcheck.hpp"
#include "tl/ops/elementwise.hpp"
#include "tl/ops/matmul.hpp"
#include "tl/ops/reduce.hpp"
#include "tl/ops/view.hpp"
#include "tl/tensor/print.hpp"

namespace {

using tl::Gradients;
using tl::Kept;
using tl::Needs;
using tl::Tensor;

Tensor leaf(std::initializer_list<float> values) {
  return Tensor::from(values, {static_cast<int64_t>(values.size())}).set_requires_grad();
}

std::string grad_of(const Tensor& x) { return to_string(x.grad()); }

/// An operation as a user writes one: y = x^2, with a count of its backward calls.
struct Square {
  static constexpr std::string_view kName = "square";
  int* calls;
  Kept x;

  Tensor forward(const Needs& needs, const Tensor& input) {
    Tensor y = Tensor::empty(input.shape());
    for (int64_t i = 0; i < y.numel(); ++i)
      y.mutable_data<float>()[i] = input.data<float>()[i] * input.data<float>()[i];
    if (needs.any()) x.keep(input);
    return y;
  }
  Gradients backward(const Needs&, const Tensor& grad_y) const {
    ++*calls;
    return {grad_y * x.get(kName) * 2.0};
  }
};

/// Fails in backward.
struct Broken {
  static constexpr std::string_view kName = "broken";
  Tensor forward(const Needs&, const Tensor& x) const { return x.clone(); }
  Gradients backward(const Needs&, const Tensor&) const { throw std::bad_alloc(); }
};

/// Returns a gradient of the wrong shape, or too few.
struct Careless {
  static constexpr std::string_view kName = "careless";
  bool none;
  Tensor forward(const Needs&, const Tensor& x) const { return x.clone(); }
  Gradients backward(const Needs&, const Tensor&) const { return none ? Gradients{} : Gradients{Tensor::zeros({7})}; }
};

/// A gradient that is off by a factor.
struct WrongSquare {
  static constexpr std::string_view kName = "wrong_square";
  Kept x;
  Tensor forward(const Needs&, const Tensor& input) {
    x.keep(input);
    return input * input;
  }
  Gradients backward(const Needs&, const Tensor& grad_y) const { return {grad_y * x.get(kName) * 2.001}; }
};

/// Records which gradients were asked for.
struct Probe {
  static constexpr std::string_view kName = "probe";
  std::vector<bool>* asked;
  Tensor forward(const Needs&, const Tensor& a, const Tensor& b, const Tensor&) const { return a + b; }
  Gradients backward(const Needs& needs, const Tensor& grad_y) const {
    *asked = {needs[0], needs[1], needs[2]};
    return {needs[0] ? grad_y : Tensor(), needs[1] ? grad_y : Tensor(), Tensor()};
  }
};

TEST_CASE("a chain of 100,000 operations goes backward") {
  Tensor x = leaf({1, 2});
  Tensor y = x;
  for (int i = 0; i < 100000; ++i) y = y + 1.0;
  y.backward(Tensor::ones({2}));
  CHECK(grad_of(x) == "f32 [2] [1, 1]");
}

TEST_CASE("a chain of 100,000 operations is destroyed without a backward pass") {
  Tensor x = leaf({1, 2});
  const auto live = tl::memory_stats().live_bytes;
  {
    Tensor y = x;
    for (int i = 0; i < 100000; ++i) y = tl::square(y);
  }
  CHECK(tl::memory_stats().live_bytes == live);
}

TEST_CASE("diamonds: a result that is used twice sends both gradients on, once") {
  int calls = 0;
  Tensor x = leaf({3});
  const Tensor middle = tl::apply(Square{&calls, {}}, x);  // 9
  (middle * 2.0 + tl::relu(middle)).backward();            // 3 x^2
  CHECK(grad_of(x) == "f32 [1] [18]");
  CHECK(calls == 1);
}

TEST_CASE("a ladder of 60 diamonds is linear work") {
  int calls = 0;
  Tensor x = leaf({1});
  Tensor y = tl::apply(Square{&calls, {}}, x);
  for (int i = 0; i < 60; ++i) y = (y + y) * 0.5;
  y.backward();
  CHECK(calls == 1);
  CHECK(grad_of(x) == "f32 [1] [2]");
}

TEST_CASE("two results of one graph go backward together, not one after another") {
  Tensor x = leaf({2});
  const Tensor shared = tl::square(x);
  const Tensor a = shared * 3.0, b = tl::square(shared);
  (a + b).backward();
  CHECK(grad_of(x) == "f32 [1] [44]");  // 6 x + 4 x^3
}

TEST_CASE("a second backward pass is refused") {
  Tensor x = leaf({2});
  const Tensor y = tl::square(x);
  y.backward();
  CHECK_THROWS_WITH_AS(y.backward(),
                       "backward: the graph behind unary was freed by an earlier backward pass. "
                       "Hint: run forward again, or add the losses first.",
                       tl::UsageError);
  CHECK(grad_of(x) == "f32 [1] [4]");
}

TEST_CASE("backward through a shared part that was used up is refused and leaves the gradients alone") {
  Tensor x = leaf({2});
  const Tensor shared = tl::square(x), a = shared * 3.0, b = shared * 5.0;
  a.backward();
  CHECK_THROWS_AS(b.backward(), tl::UsageError);
  CHECK(grad_of(x) == "f32 [1] [12]");
}

TEST_CASE("backward wants one element, a history, and a gradient of its shape") {
  Tensor x = leaf({1, 2});
  CHECK_THROWS_WITH_AS(
      tl::square(x).backward(),
      "backward: expected a loss of one element, got [2]. Hint: mean() it, or pass the gradient of the result.",
      tl::ShapeError);
  CHECK_THROWS_WITH_AS(Tensor::ones({1}).backward(),
                       "backward: the tensor has no history: nothing behind it wants a gradient. "
                       "Hint: are all parameters frozen, or is a NoGrad alive?",
                       tl::UsageError);
  CHECK_THROWS_WITH_AS(tl::square(x).backward(Tensor::ones({3})),
                       "backward: the gradient must be like the tensor, [2]; got [3]", tl::ShapeError);
}

TEST_CASE("a leaf may be its own result") {
  Tensor x = leaf({5});
  x.backward();
  x.backward();
  CHECK(grad_of(x) == "f32 [1] [2]");
}

TEST_CASE("a kept tensor that changes before backward is an error, not a wrong gradient") {
  Tensor x = leaf({2, 3}), factor = Tensor::ones({2});
  const Tensor y = x * factor;
  factor.fill_(7);
  CHECK_THROWS_WITH_AS(y.backward(Tensor::ones({2})),
                       "multiply: a tensor that backward needs was changed in place after forward: [2]. "
                       "Hint: change a clone(), or call backward first.",
                       tl::UsageError);
  CHECK_FALSE(x.grad().defined());

  const Tensor out = tl::exp(x);  // keeps its result
  Tensor handle = out;
  handle.mutable_data<float>()[0] = 0;
  CHECK_THROWS_AS(out.backward(Tensor::ones({2})), tl::UsageError);

  Tensor view = factor.alias({2, 1});  // a change through a view counts as well
  const Tensor z = x * factor;
  view.zero_();
  CHECK_THROWS_AS(z.backward(Tensor::ones({2})), tl::UsageError);
}

TEST_CASE("a change in place of what backward does not need is allowed") {
  Tensor x = leaf({2, 3}), addend = Tensor::ones({2});
  const Tensor y = x + addend;
  addend.fill_(7);
  y.backward(Tensor::ones({2}));
  CHECK(grad_of(x) == "f32 [2] [1, 1]");
}

TEST_CASE("NoGrad records nothing, nests, and ends with its scope") {
  Tensor x = leaf({2});
  {
    const tl::NoGrad outer;
    {
      const tl::NoGrad inner;
      CHECK_FALSE(tl::square(x).requires_grad());
    }
    CHECK_FALSE(tl::square(x).requires_grad());
  }
  CHECK(tl::square(x).requires_grad());
  try {
    const tl::NoGrad no_grad;
    throw 1;
  } catch (int) {
  }
  CHECK(tl::grad_enabled());
}

TEST_CASE("leaves add up the gradients of several backward passes") {
  Tensor x = leaf({1, 2});
  tl::sum(tl::square(x)).backward();
  tl::sum(x * 3.0).backward();
  CHECK(grad_of(x) == "f32 [2] [5, 7]");
  x.zero_grad();
  CHECK_FALSE(x.grad().defined());
  tl::sum(x * 3.0).backward();
  CHECK(grad_of(x) == "f32 [2] [3, 3]");
}

TEST_CASE("a gradient that was handed out does not change by itself") {
  Tensor x = leaf({1, 2});
  tl::sum(x * 3.0).backward();
  const Tensor first = x.grad();
  tl::sum(x * 3.0).backward();
  CHECK(to_string(first) == "f32 [2] [3, 3]");
  CHECK(grad_of(x) == "f32 [2] [6, 6]");
}

TEST_CASE("a leaf that was frozen between forward and backward collects nothing") {
  Tensor x = leaf({2}), frozen = leaf({3});
  const Tensor y = x * frozen;
  frozen.set_requires_grad(false);
  y.backward();
  CHECK(grad_of(x) == "f32 [1] [3]");
  CHECK_FALSE(frozen.grad().defined());
}

TEST_CASE("x + x gives twice the gradient, in memory of its own") {
  Tensor x = leaf({1, 2});
  const Tensor g = Tensor::from({10.0f, 20.0f}, {2});
  (x + x).backward(g);
  CHECK(grad_of(x) == "f32 [2] [20, 40]");
  CHECK(to_string(g) == "f32 [2] [10, 20]");
}

TEST_CASE("leaves that receive the same gradient do not share it") {
  Tensor a = leaf({1, 2}), b = leaf({3, 4});
  const Tensor g = Tensor::from({10.0f, 20.0f}, {2});
  (a + b).backward(g);
  (a + 0.0).backward(Tensor::ones({2}));
  CHECK(grad_of(a) == "f32 [2] [11, 21]");
  CHECK(grad_of(b) == "f32 [2] [10, 20]");
  CHECK(to_string(g) == "f32 [2] [10, 20]");

  Tensor c = leaf({1, 2});
  c.backward(g);  // the leaf itself
  reshape(c, {2, 1}).backward(g.alias({2, 1}));
  CHECK(grad_of(c) == "f32 [2] [20, 40]");
  CHECK(to_string(g) == "f32 [2] [10, 20]");
}

TEST_CASE("below the lowest thing that learns nothing is kept") {
  const Tensor x = Tensor::ones({64, 64});
  const Tensor frozen = Tensor::ones({64, 64});
  Tensor head = Tensor::ones({64, 64}).set_requires_grad();
  const auto before = tl::memory_stats().live_bytes;
  Tensor y = x;
  for (int i = 0; i < 10; ++i) y = tl::relu(matmul(y, frozen));
  CHECK(tl::memory_stats().live_bytes - before == 64 * 64 * 4);  // the last result alone
  CHECK_FALSE(y.requires_grad());
  y = tl::relu(matmul(y, head));  // keeps its input for head's gradient, and its own result
  CHECK(y.requires_grad());
  CHECK(tl::memory_stats().live_bytes - before == 2 * 64 * 64 * 4);
}

TEST_CASE("a product keeps only what the wanted gradients need") {
  const auto kept_by = [](bool left, bool right) {
    Tensor a = Tensor::ones({64, 64}), b = Tensor::ones({64, 64});
    a.set_requires_grad(left), b.set_requires_grad(right);
    const auto before = tl::memory_stats().live_bytes;
    const Tensor y = matmul(a * 1.0, b * 1.0);
    return (tl::memory_stats().live_bytes - before) / (64 * 64 * 4) - 1;
  };
  CHECK(kept_by(false, false) == 0);
  CHECK(kept_by(true, false) == 1);
  CHECK(kept_by(false, true) == 1);
  CHECK(kept_by(true, true) == 2);
}

TEST_CASE("backward frees what was kept as it goes") {
  Tensor x = Tensor::ones({256, 256}).set_requires_grad();
  Tensor y = x;
  for (int i = 0; i < 20; ++i) y = tl::exp(y * 0.1);
  tl::reset_peak_bytes();
  const auto live = tl::memory_stats().live_bytes;
  tl::sum(y).backward();
  CHECK(tl::memory_stats().peak_bytes - live <= 5 * 256 * 256 * 4);
  y = Tensor();
  CHECK(tl::memory_stats().live_bytes < live - 18 * 256 * 256 * 4);
}

TEST_CASE("gradients that nobody wants are not computed") {
  std::vector<bool> asked;
  Tensor x = leaf({1}), frozen = Tensor::ones({1});
  tl::apply(Probe{&asked}, frozen, x, Tensor()).backward();
  CHECK(asked == std::vector<bool>{false, true, false});
  CHECK(grad_of(x) == "f32 [1] [1]");
  CHECK_FALSE(frozen.grad().defined());
}

TEST_CASE("an error inside backward leaves no half sums behind") {
  Tensor x = leaf({1, 2});
  const Tensor shared = x * 2.0;
  const Tensor broken = tl::apply(Broken{}, shared * 1.0), fine = tl::relu(shared);
  CHECK_THROWS_AS((broken + fine).backward(Tensor::ones({2})),
                  std::bad_alloc);  // `fine`, made later, sent its share first
  CHECK_FALSE(x.grad().defined());
  (shared * 5.0).backward(Tensor::ones({2}));
  CHECK(grad_of(x) == "f32 [2] [10, 10]");
}

TEST_CASE("operations that return wrong gradients are named") {
  Tensor x = leaf({1, 2});
  CHECK_THROWS_WITH_AS(tl::apply(Careless{false}, x).backward(Tensor::ones({2})),
                       "careless: backward returned a gradient [7] for input 0, which is [2]", tl::ShapeError);
  CHECK_THROWS_WITH_AS(tl::apply(Careless{true}, x).backward(Tensor::ones({2})),
                       "careless: backward returned 0 gradients for 1 inputs", tl::UsageError);
}

TEST_CASE("only floating leaves can ask for gradients") {
  CHECK_THROWS_WITH_AS(Tensor::zeros({2}, tl::DType::i32).set_requires_grad(),
                       "set_requires_grad: only floating tensors have gradients, not i32", tl::DTypeError);
  Tensor y = tl::square(leaf({1}));
  CHECK_THROWS_WITH_AS(y.set_requires_grad(),
                       "set_requires_grad: this tensor is the result of an operation; only leaves can be set. "
                       "Hint: detach() it first.",
                       tl::UsageError);
  CHECK_THROWS_AS(leaf({1}).set_grad(Tensor::ones({2})), tl::ShapeError);
}

TEST_CASE("detach cuts the history and shares the numbers") {
  Tensor x = leaf({3});
  const Tensor y = tl::square(x);
  CHECK_FALSE(y.detach().requires_grad());
  CHECK(y.detach().raw_data() == y.raw_data());
  (y.detach() * x).backward();
  CHECK(grad_of(x) == "f32 [1] [9]");
}

TEST_CASE("gradcheck accepts a right gradient and names the place of a wrong one") {
  const auto f64 = [] { return Tensor::from({0.5, -1.5, 2.0}, {3}).set_requires_grad(); };
  CHECK(tl::gradcheck([](const std::vector<Tensor>& x) { return x[0] * tl::exp(x[1]); }, {f64(), f64()}));
  const auto wrong =
      tl::gradcheck([](const std::vector<Tensor>& x) { return tl::apply(WrongSquare{}, x[0]); }, {f64()});
  CHECK_FALSE(wrong);
  CHECK(wrong.message.starts_with("gradcheck: input 0 element 0: analytic 0.955814, numeric 0.955336"));
  CHECK(wrong.worst_error > 1e-4);
  CHECK_THROWS_WITH_AS(tl::gradcheck([](const std::vector<Tensor>& x) { return x[0]; }, {leaf({1})}),
                       "gradcheck: inputs must be f64, got f32", tl::DTypeError);
}

TEST_CASE("gradcheck skips what has no gradient and leaves the inputs as they were") {
  Tensor x = Tensor::from({0.25, 4.0}, {2}).set_requires_grad(), constant = Tensor::from({2.0, 3.0}, {2});
  CHECK(tl::gradcheck([](const std::vector<Tensor>& t) { return t[0] * t[1]; }, {x, constant}));
  CHECK(to_string(x) == "f64 [2] [0.25, 4]");
  CHECK_FALSE(constant.grad().defined());
}

}  // namespace
