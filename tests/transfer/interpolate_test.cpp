// WiSE-FT: weights between two sets.
#include "tl/transfer/interpolate.hpp"

#include "linear_norm.hpp"

using namespace tl;
using namespace tl_test;

TEST_CASE("parameters and float buffers lie between, counters stay the network's") {
  LinearNorm net;
  net.fc.weight.value().fill_(1);
  buffer(net, "bn.running_mean").fill_(-2);
  const auto start = copy_weights(net);
  net.fc.weight.value().fill_(5);
  buffer(net, "bn.running_mean").fill_(2);
  buffer(net, "bn.num_batches_tracked").fill_(9);
  const auto end = copy_weights(net);
  interpolate_weights(net, start, 0.25);
  CHECK(net.fc.weight.value().values<float>()[2] == 2);
  CHECK(buffer(net, "bn.running_mean").values<float>()[1] == -1);
  CHECK(buffer(net, "bn.num_batches_tracked").values<int64_t>()[0] == 9);

  restore_weights(net, end);
  interpolate_weights(net, start, 1);
  CHECK(net.fc.weight.value().values<float>()[0] == 5);
  interpolate_weights(net, start, 0);
  CHECK(net.fc.weight.value().values<float>()[0] == 1);
  CHECK_THROWS_AS(interpolate_weights(net, start, 1.5), UsageError);
  nn::Linear other(3, 2);
  CHECK_THROWS_AS(interpolate_weights(other, start, 0.5), StateDictError);
}
