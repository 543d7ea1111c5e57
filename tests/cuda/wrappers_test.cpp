// The device layer means the same in the emulator and on a GPU: every function of it has one right result, to the bit.
// This is the first thing to look at on a new GPU: if it fails, what the emulator says about the kernels is worth
// nothing.
#include "wrappers.hpp"

#include <bit>
#include <numeric>

#include "device_test.hpp"

namespace tl::test {
namespace {

TEST_CASE("device layer: indices and sizes") {
  std::vector<unsigned> expected;
  for (unsigned y = 0; y < 3; ++y) {
    for (unsigned x = 0; x < 2; ++x) expected.insert(expected.end(), {x, y, 3, 1, 1, 4, 2, 2, 15});
  }
  in_every_order([&] {
    OnDevice<unsigned> out(expected.size());
    wrappers::indices(out.data());
    CHECK(out.values() == expected);
  });
}

TEST_CASE("device layer: shuffles and ballots") {
  const auto x = random_floats(32, 1);
  const auto source = random_indices(32, 64, 2);  // CUDA takes the source modulo 32
  std::vector<int64_t> wide(32);
  for (std::size_t i = 0; i < 32; ++i)
    wide[i] = std::bit_cast<int32_t>(x[i]) * (int64_t{1} << 31) + static_cast<int64_t>(i);
  std::vector<float> shuffled(32), crossed(5 * 32);
  std::vector<int64_t> wide_shuffled(32);
  std::vector<unsigned> votes(32);
  for (std::size_t i = 0; i < 32; ++i) {
    shuffled[i] = x[static_cast<std::size_t>(source[i] % 32)];
    wide_shuffled[i] = wide[static_cast<std::size_t>(source[i] % 32)];
    for (std::size_t bit = 0; bit < 5; ++bit) crossed[bit * 32 + i] = x[i ^ (std::size_t{1} << bit)];
    for (std::size_t j = i % 2; j < 32; j += 2) votes[i] |= x[j] > 0 ? 1u << j : 0u;
  }
  OnDevice<float> in(x);
  OnDevice<int64_t> in_wide(wide);
  OnDevice<int32_t> sources(source);
  in_every_order([&] {
    OnDevice<float> out(32), out_crossed(5 * 32);
    OnDevice<int64_t> out_wide(32);
    OnDevice<unsigned> out_votes(32);
    wrappers::shuffle(in.data(), sources.data(), out.data());
    wrappers::shuffle_wide(in_wide.data(), sources.data(), out_wide.data());
    wrappers::shuffle_xor(in.data(), out_crossed.data());
    wrappers::ballot(in.data(), out_votes.data());
    CHECK(out.values() == shuffled);
    CHECK(out_wide.values() == wide_shuffled);
    CHECK(out_crossed.values() == crossed);
    CHECK(out_votes.values() == votes);
  });
}

TEST_CASE("device layer: atomics") {
  in_every_order([&] {
    OnDevice<uint32_t> out(std::vector<uint32_t>(66));
    wrappers::atomics(out.data());
    auto values = out.values();
    CHECK(values[64] == 64);
    CHECK(std::bit_cast<float>(values[65]) == 32.0f);
    std::sort(values.begin(), values.begin() + 64);
    std::vector<uint32_t> all(64);
    std::iota(all.begin(), all.end(), 0u);
    CHECK(std::equal(all.begin(), all.end(), values.begin()));
  });
}

TEST_CASE("device layer: shared memory and barriers") {
  const auto x = random_floats(96, 3);
  const std::vector<float> reversed(x.rbegin(), x.rend());
  std::vector<float> rotated(x.begin(), x.begin() + 32);
  std::rotate(rotated.begin(), rotated.begin() + 1, rotated.end());
  OnDevice<float> in(x);
  in_every_order([&] {
    OnDevice<float> a(96), b(96), c(96), d(32);
    wrappers::reverse(in.data(), a.data());
    wrappers::reverse_dynamic(in.data(), b.data(), 0);
    wrappers::reverse_dynamic(in.data(), c.data(), 60 * 1024);  // more than a kernel has without asking
    wrappers::rotate(in.data(), d.data());
    CHECK(a.values() == reversed);
    CHECK(b.values() == reversed);
    CHECK(c.values() == reversed);
    CHECK(d.values() == rotated);
  });
}

TEST_CASE("device layer: packs") {
  const auto x = random_floats(1000, 4);
  OnDevice<float> in(x);
  in_every_order([&] {
    OnDevice<float> out(1000);
    wrappers::packs(in.data(), out.data(), 1000);
    CHECK(out.values() == x);
  });
}

/// As warp_reduce adds: each round a lane adds the value of the lane that differs in one bit.
float tree_sum(const float* x) {
  std::vector<float> lanes(x, x + 32);
  for (std::size_t bits = 16; bits > 0; bits /= 2) {
    const auto before = lanes;
    for (std::size_t i = 0; i < 32; ++i) lanes[i] = before[i] + before[i ^ bits];
  }
  return lanes[0];
}

TEST_CASE("device layer: reductions add in the order that they promise") {
  const auto x = random_floats(128, 5);
  std::vector<float> warps(32);
  for (std::size_t warp = 0; warp < 4; ++warp) warps[warp] = tree_sum(x.data() + warp * 32);
  std::vector<float> expected(32, warps[0]);
  expected.resize(160, tree_sum(warps.data()));
  expected.resize(288, *std::max_element(x.begin(), x.end()));
  OnDevice<float> in(x);
  in_every_order([&] {
    OnDevice<float> out(expected.size());
    wrappers::reductions(in.data(), out.data());
    CHECK(out.values() == expected);
  });
}

TEST_CASE("device layer: products are rounded when and only when they should be") {
  const std::size_t n = 300;
  const auto a = random_floats(n, 6), b = random_floats(n, 7), c = random_floats(n, 8);
  std::vector<float> expected(2 * n);
  for (std::size_t i = 0; i < n; ++i) {
    const volatile float product = a[i] * b[i];
    expected[i] = product + c[i];
    expected[n + i] = std::fma(a[i], b[i], c[i]);
  }
  OnDevice<float> on_a(a), on_b(b), on_c(c);
  in_every_order([&] {
    OnDevice<float> out(2 * n);
    wrappers::roundings(on_a.data(), on_b.data(), on_c.data(), out.data(), static_cast<int64_t>(n));
    CHECK(out.values() == expected);
  });
}

}  // namespace
}  // namespace tl::test
