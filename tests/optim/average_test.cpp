// The moving average of weights: PyTorch's numbers are not needed, the formula is one line; what matters is what it
// covers.
#include "tl/optim/average.hpp"

#include "linear_norm.hpp"
#include "tl/nn/freeze.hpp"

namespace {

using namespace tl;
using namespace tl_test;
using optim::WeightAverage;

double average_of(const WeightAverage& average, const std::string& name) {
  for (const auto& entry : average.state())
    if (entry.name == name)
      return entry.tensor.dtype() == DType::f32 ? static_cast<double>(entry.tensor.values<float>()[0])
                                                : static_cast<double>(entry.tensor.values<int64_t>()[0]);
  return -1;
}

}  // namespace

TEST_CASE("FR09: the average covers float buffers, and copies counters") {
  LinearNorm net;
  buffer(net, "bn.running_mean").fill_(0);
  WeightAverage average(net, 0.5);
  const double live[] = {0, 1, 1.5}, expected[] = {0, 0.5, 1};
  for (int i = 0; i < 3; ++i) {
    buffer(net, "bn.running_mean").fill_(live[i]);
    buffer(net, "bn.num_batches_tracked").fill_(i + 7);
    average.update();
    CHECK(average_of(average, "bn.running_mean") == expected[i]);
    CHECK(average_of(average, "bn.num_batches_tracked") == i + 7);
  }
}

TEST_CASE("the average of parameters follows its formula, and swap exchanges it with the network") {
  LinearNorm net;
  net.fc.weight.value().fill_(1);
  WeightAverage average(net, 0.9);
  double expected = 1;
  for (int i = 0; i < 5; ++i) {
    net.fc.weight.value().fill_(i);
    average.update();
    expected = 0.9 * expected + 0.1 * i;
    CHECK(average_of(average, "fc.weight") == doctest::Approx(expected).epsilon(1e-6));
  }
  average.swap();
  CHECK(static_cast<double>(net.fc.weight.value().values<float>()[3]) == doctest::Approx(expected).epsilon(1e-6));
  CHECK(average_of(average, "fc.weight") == 4);
  average.swap();
  CHECK(net.fc.weight.value().values<float>()[3] == 4);
}

TEST_CASE("what is frozen has no average; unfrozen later, it begins with its value then") {
  LinearNorm net;
  freeze(net, "bn");
  freeze(net, "fc.weight");
  WeightAverage average(net, 0.5);
  CHECK(average.state().size() == 1);
  unfreeze(net, "fc.weight");
  net.fc.weight.value().fill_(3);
  average.update();
  CHECK(average_of(average, "fc.weight") == 3);
  net.fc.weight.value().fill_(5);
  average.update();
  CHECK(average_of(average, "fc.weight") == 4);
  freeze(net, "fc.weight");
  average.update();
  CHECK(average.state().size() == 1);
}

TEST_CASE("the state returns bit for bit, and another network's is refused") {
  LinearNorm net;
  WeightAverage average(net, 0.9);
  net.fc.weight.value().fill_(3);
  average.update();
  WeightAverage other(net, 0.9);
  other.load_state(average.state());
  CHECK(average_of(other, "fc.weight") == average_of(average, "fc.weight"));
  nn::Linear wrong(2, 3);
  WeightAverage third(wrong, 0.9);
  CHECK_THROWS_AS(third.load_state(average.state()), StateDictError);
  CHECK_THROWS_AS(WeightAverage(net, 1), UsageError);
}
