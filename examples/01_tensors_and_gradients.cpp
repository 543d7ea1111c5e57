// Lecture 1: tensors, and the gradients that they know.
//
// You learn: what a tensor is, how operations record themselves, how backward() walks back over them, and how to add an
// operation of your own and check its gradient.
//
//   ./01_tensors_and_gradients
//
// Expected: the printed comments, and at the end {"gradient_error": ...} below 1e-8.
#include "common/program.hpp"

#include <cmath>
#include <cstdio>

#include "tl/tl.hpp"

using namespace tl;

// An operation is a struct: its options, what it keeps, forward, and backward beside it. This one is y = log(1 +
// exp(x)).
struct Softplus {
  static constexpr std::string_view kName = "softplus";
  Kept x;

  Tensor forward(const Needs& needs, const Tensor& input) {
    if (needs.any()) x.keep(input);  // below a frozen layer nobody needs it, and nothing is kept
    const NoGrad no_grad;            // what happens in here is this operation's own business
    return log(exp(input) + 1.0);
  }

  Gradients backward(const Needs&, const Tensor& grad_y) {
    const NoGrad no_grad;
    return {grad_y * sigmoid(x.get(kName))};
  }
};

Tensor softplus(const Tensor& x) { return apply(Softplus{}, x); }

int lecture() {
  // A tensor has a shape, a type and a device. Copies share the numbers; clone() copies them.
  const Tensor a = Tensor::from({1.0f, 2.0f, 3.0f, 4.0f, 5.0f, 6.0f}, {2, 3});
  std::printf("a         = %s\n", to_string(a).c_str());

  // Shapes broadcast from the last dimension: [2, 3] + [3].
  std::printf("a + row   = %s\n", to_string(a + Tensor::from({10.0f, 20.0f, 30.0f}, {3})).c_str());
  std::printf("a a^T     = %s\n", to_string(matmul(a, a, {.transpose_b = true})).c_str());

  // A leaf that wants a gradient makes everything computed from it remember how it came about.
  Tensor w = Tensor::from({0.5f, -1.0f, 2.0f}, {3});
  w.set_requires_grad();
  const Tensor loss = sum(square(a * w));  // sum_ij (a_ij w_j)^2
  loss.backward();                         // d loss / d w_j = 2 w_j sum_i a_ij^2
  std::printf("loss      = %g\n", loss.item());
  std::printf("d loss/dw = %s\n", to_string(w.grad()).c_str());

  // backward() frees what was recorded. Asking again is an error that says so, not a wrong number.
  try {
    loss.backward();
  } catch (const UsageError& error) {
    std::printf("again     : %s\n", error.what());
  }

  // A mistake in shapes names what was expected and what came.
  try {
    conv2d(Tensor::zeros({8, 224, 224, 3}), Tensor::zeros({64, 7, 7, 4}));
  } catch (const ShapeError& error) {
    std::printf("shapes    : %s\n", error.what());
  }

  // Check a gradient of your own by finite differences, in double precision.
  Tensor x = Tensor::from({-2.0, -0.5, 0.1, 3.0}, {4});
  x.set_requires_grad();
  const GradcheckResult check = gradcheck([](const std::vector<Tensor>& in) { return softplus(in[0]); }, {x});
  std::printf("{\"gradient_passed\": %s, \"gradient_error\": %g}\n", check ? "true" : "false", check.worst_error);
  return check ? 0 : 1;
}

int main(int argc, char** argv) {
  CLI::App app("Shows tensors, gradients and an operation of one's own.", "01_tensors_and_gradients");
  example::CommonOptions common;
  common.add_to(app);
  return example::run(app, argc, argv, [&] {
    common.apply();
    return lecture();
  });
}
