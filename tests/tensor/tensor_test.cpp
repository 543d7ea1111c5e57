// Tensors: making, asking, sharing, converting, printing, refusing.
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <vector>

#include "support.hpp"
#include "tl/autograd/engine.hpp"
#include "tl/tensor/print.hpp"
#include "tl/tensor/tensor.hpp"

namespace {

using tl::DType;
using tl::Shape;
using tl::Tensor;

TEST_CASE("tensors are made of values, constants and nothing") {
  CHECK(to_string(Tensor::from({1.5f, 2.0f, 3.0f, 4.0f}, {2, 2})) == "f32 [2, 2] [[1.5, 2], [3, 4]]");
  CHECK(to_string(Tensor::from(std::vector<int32_t>{1, -2}, {2})) == "i32 [2] [1, -2]");
  CHECK(to_string(Tensor::zeros({2}, DType::i64)) == "i64 [2] [0, 0]");
  CHECK(to_string(Tensor::ones({1, 2}, DType::f64)) == "f64 [1, 2] [[1, 1]]");
  CHECK(to_string(Tensor::full({2}, -3, DType::i8)) == "i8 [2] [-3, -3]");
  CHECK(to_string(Tensor::full({2}, 0.5, DType::bf16)) == "bf16 [2] [0.5, 0.5]");
  CHECK(to_string(Tensor::full({1}, 7, DType::boolean)) == "bool [1] [1]");
  CHECK(to_string(Tensor::scalar(2.25)) == "f32 [] 2.25");
  CHECK(to_string(Tensor::empty({0, 3})) == "f32 [0, 3] []");
  CHECK(to_string(Tensor()) == "undefined");
  CHECK_THROWS_WITH_AS(Tensor::from({1.0f, 2.0f}, {3}), "Tensor::from: [3] needs 3 values; got 2", tl::ShapeError);
}

TEST_CASE("long dimensions are printed by their ends") {
  std::vector<int32_t> values(24);
  std::iota(values.begin(), values.end(), 0);
  CHECK(to_string(Tensor::from(values, {24})) == "i32 [24] [0, 1, 2, ..., 21, 22, 23]");
  CHECK(to_string(Tensor::from(values, {8, 3})) ==
        "i32 [8, 3] [[0, 1, 2], [3, 4, 5], [6, 7, 8], ..., [15, 16, 17], [18, 19, 20], [21, 22, 23]]");
  CHECK(to_string(Tensor::from({0, 1, 2, 3, 4, 5}, {6})) == "i32 [6] [0, 1, 2, 3, 4, 5]");
  CHECK(to_string(Tensor::from({std::numeric_limits<float>::infinity()}, {1})) == "f32 [1] [inf]");
  CHECK(tl::text("x = ", Tensor::scalar(1)) == "x = f32 [] 1");
}

TEST_CASE("a tensor answers questions") {
  const Tensor x = Tensor::zeros({2, 3, 4}, DType::f64);
  CHECK(x.rank() == 3);
  CHECK(x.size(-1) == 4);
  CHECK(x.numel() == 24);
  CHECK(x.bytes() == 192);
  CHECK(x.dtype() == DType::f64);
  CHECK(x.device() == tl::kCpu);
  CHECK(x.values<double>().size() == 24);
  CHECK(reinterpret_cast<uintptr_t>(x.raw_data()) % 64 == 0);
  CHECK(x.defined());
  CHECK_FALSE(Tensor().defined());
}

TEST_CASE("the element type is checked, and so is an undefined tensor") {
  const Tensor x = Tensor::zeros({2});
  CHECK_THROWS_WITH_AS(x.data<double>(), "Tensor::data: the tensor holds f32, asked for f64", tl::DTypeError);
  CHECK_THROWS_WITH_AS(Tensor().shape(), "shape: the tensor is undefined (default-constructed, never assigned)",
                       tl::UsageError);
  CHECK_THROWS_WITH_AS(Tensor().numel(), "shape: the tensor is undefined (default-constructed, never assigned)",
                       tl::UsageError);
  CHECK_THROWS_WITH_AS(x.item(), "item: expected one element, got [2]", tl::ShapeError);
}

TEST_CASE("item reads the only element, of any type and rank") {
  CHECK(Tensor::scalar(2.5).item() == 2.5);
  CHECK(Tensor::full({1, 1, 1}, 3, DType::i64).item() == 3);
  CHECK(Tensor::full({1}, 1.5, DType::f16).item() == 1.5);
  CHECK(Tensor::full({1}, 1, DType::boolean).item() == 1);
  CHECK(Tensor::full({1}, 255, DType::u8).item() == 255);
}

TEST_CASE("handles share, clones do not") {
  Tensor x = Tensor::from({1.0f, 2.0f}, {2});
  Tensor handle = x, view = x.alias({2, 1}), copy = x.clone();
  handle.mutable_data<float>()[0] = 5;
  CHECK(x.data<float>()[0] == 5);
  CHECK(view.data<float>()[0] == 5);
  CHECK(copy.data<float>()[0] == 1);
  CHECK(handle.is(x));
  CHECK_FALSE(view.is(x));
  CHECK_FALSE(copy.is_sole_owner() != true);
  CHECK_FALSE(x.is_sole_owner());
  CHECK_THROWS_WITH_AS(x.alias({3}), "alias: [2] cannot be seen as [3]", tl::ShapeError);
}

TEST_CASE("a change through any handle moves the version, and versions are never used twice") {
  Tensor x = Tensor::zeros({2}), view = x.alias({1, 2});
  const auto before = x.storage()->version();
  CHECK(x.data<float>()[0] == 0);
  CHECK(x.storage()->version() == before);
  view.mutable_data<float>();
  CHECK(x.storage()->version() != before);
  uint64_t last = 0;
  for (int i = 0; i < 10; ++i) {  // the allocator hands out one block again and again
    const Tensor fresh = Tensor::zeros({2});
    CHECK(fresh.storage()->version() > last);
    last = fresh.storage()->version();
  }
}

TEST_CASE("views of foreign memory keep it alive, stay inside it, and may be read-only") {
  auto owner = std::make_shared<std::vector<float>>(std::vector<float>{1, 2, 3, 4});
  const std::weak_ptr<std::vector<float>> alive = owner;
  {
    auto storage = std::make_shared<tl::Storage>(owner->data(), 16, false, owner);
    owner.reset();
    Tensor x = Tensor::view_of(storage, 4, {3}, DType::f32);
    storage.reset();
    CHECK(to_string(x) == "f32 [3] [2, 3, 4]");
    CHECK_THROWS_WITH_AS(x.fill_(0),
                         "Tensor: this tensor views read-only memory, such as a mapped file. Hint: change a clone().",
                         tl::UsageError);
    CHECK_THROWS_AS(x.zero_(), tl::UsageError);
    CHECK_THROWS_AS(x.copy_from(Tensor::zeros({3})), tl::UsageError);
    Tensor copy = x.clone();
    copy.fill_(9);
    CHECK(to_string(x) == "f32 [3] [2, 3, 4]");
    CHECK_THROWS_WITH_AS(Tensor::view_of(x.storage(), 4, {4}, DType::f32),
                         "Tensor: [4] of f32 at byte 4 does not fit into 16 bytes", tl::ShapeError);
    CHECK_THROWS_AS(Tensor::view_of(x.storage(), 17, {0}, DType::f32), tl::ShapeError);
    CHECK_THROWS_AS(Tensor::view_of(x.storage(), std::numeric_limits<size_t>::max() - 3, {1}, DType::f32),
                    tl::ShapeError);
    CHECK_FALSE(alive.expired());
  }
  CHECK(alive.expired());
}

TEST_CASE("copying wants equal shapes and types") {
  Tensor x = Tensor::zeros({2});
  x.copy_from(Tensor::from({3.0f, 4.0f}, {2}));
  CHECK(to_string(x) == "f32 [2] [3, 4]");
  CHECK_THROWS_WITH_AS(x.copy_from(Tensor::zeros({3})), "copy_from: expected [2], got [3]", tl::ShapeError);
  CHECK_THROWS_WITH_AS(x.copy_from(Tensor::zeros({2}, DType::f64)), "copy_from: expected f32, got f64", tl::DTypeError);
  Tensor large = Tensor::empty({3000001}, DType::i32), other = Tensor::empty({3000001}, DType::i32);  // several ranges
  std::iota(other.mutable_data<int32_t>(), other.mutable_data<int32_t>() + other.numel(), 0);
  large.copy_from(other);
  CHECK(std::memcmp(large.raw_data(), other.raw_data(), other.bytes()) == 0);
}

TEST_CASE("taking over memory keeps handles and the wish for a gradient") {
  Tensor x = Tensor::from({1.0f, 2.0f}, {2}).set_requires_grad();
  const Tensor handle = x;
  x.adopt_storage(Tensor::from({3.0, 4.0}, {2}));
  CHECK(to_string(handle) == "f64 [2] [3, 4]");
  CHECK(handle.requires_grad());
  CHECK_THROWS_WITH_AS(x.adopt_storage(Tensor::zeros({3})), "adopt_storage: [2] cannot take over [3]", tl::ShapeError);
}

TEST_CASE("elements are converted between all types") {
  const DType all[] = {DType::f32, DType::f64, DType::bf16, DType::f16,    DType::i8,
                       DType::u8,  DType::i32, DType::i64,  DType::boolean};
  for (const DType from : all)
    for (const DType to : all) {
      CAPTURE(tl::name_of(from));
      CAPTURE(tl::name_of(to));
      const Tensor x = Tensor::from({0.0f, 1.0f, 100.0f}, {3}).to(from).to(to);
      CHECK(x.dtype() == to);
      const bool flag = from == DType::boolean || to == DType::boolean;
      CHECK(to_string(x.to(DType::f64)) == (flag ? "f64 [3] [0, 1, 1]" : "f64 [3] [0, 1, 100]"));
    }
  CHECK(to_string(Tensor::from({2.9f, -2.9f, 0.4f}, {3}).to(DType::i32)) == "i32 [3] [2, -2, 0]");
  const Tensor x = Tensor::zeros({2});
  CHECK(x.to(DType::f32).is(x));
}

TEST_CASE("floats that an integer cannot hold become the nearest that it can, and NaN becomes 0") {
  const float infinity = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
  const Tensor x = Tensor::from({300.0f, -300.0f, infinity, -infinity, nan, 1e30f}, {6});
  CHECK(to_string(x.to(DType::u8)) == "u8 [6] [255, 0, 255, 0, 0, 255]");
  CHECK(to_string(x.to(DType::i8)) == "i8 [6] [127, -128, 127, -128, 0, 127]");
  const auto wide = x.to(DType::i32);
  CHECK(wide.data<int32_t>()[2] == std::numeric_limits<int32_t>::max());
  CHECK(wide.data<int32_t>()[3] == std::numeric_limits<int32_t>::min());
  const auto wider = x.to(DType::i64);
  CHECK(wider.data<int64_t>()[2] == std::numeric_limits<int64_t>::max());
  CHECK(wider.data<int64_t>()[3] == std::numeric_limits<int64_t>::min());
}

// ---- half precision, by a definition that shares nothing with the implementation ----

/// The value of a number with `exponent_bits` and `fraction_bits`, from the definition of the format.
double decoded(unsigned bits, int exponent_bits, int fraction_bits) {
  const int bias = (1 << (exponent_bits - 1)) - 1;
  const bool negative = (bits >> (exponent_bits + fraction_bits)) & 1u;
  const int exponent = static_cast<int>((bits >> fraction_bits) & ((1u << exponent_bits) - 1));
  const double fraction = (bits & ((1u << fraction_bits) - 1)) / std::ldexp(1.0, fraction_bits);
  double value = 0;
  if (exponent == (1 << exponent_bits) - 1) {
    value = fraction == 0 ? std::numeric_limits<double>::infinity() : std::numeric_limits<double>::quiet_NaN();
  } else {
    value = exponent == 0 ? std::ldexp(fraction, 1 - bias) : std::ldexp(1 + fraction, exponent - bias);
  }
  return negative ? -value : value;
}

template <class Half, class FromFloat>
void check_half(int exponent_bits, int fraction_bits, FromFloat from_float) {
  double previous = 0;
  for (unsigned bits = 0; bits < 65536; ++bits) {
    const double expected = decoded(bits, exponent_bits, fraction_bits);
    const float value = tl::to_float(Half{static_cast<uint16_t>(bits)});
    if (std::isnan(expected)) {
      REQUIRE(std::isnan(value));
      REQUIRE(std::isnan(tl::to_float(from_float(value))));
      continue;
    }
    REQUIRE(static_cast<double>(value) == expected);
    REQUIRE(std::signbit(value) == std::signbit(expected));
    REQUIRE(from_float(value).bits == bits);
    // Between neighbours: the middle goes to the even one, a bit more or less to the nearer one.
    if (bits % 32768 != 0 && std::isfinite(expected)) {
      const auto middle = static_cast<float>((previous + expected) / 2);
      const auto lower = static_cast<uint16_t>(bits - 1), upper = static_cast<uint16_t>(bits);
      REQUIRE(from_float(middle).bits == (bits % 2 == 0 ? upper : lower));
      const float up = std::nextafter(middle, static_cast<float>(expected)),
                  down = std::nextafter(middle, static_cast<float>(previous));
      REQUIRE(from_float(up).bits == upper);
      REQUIRE(from_float(down).bits == lower);
    }
    previous = expected;
  }
}

TEST_CASE("all 65,536 numbers of f16 are read and rounded to right") {
  check_half<tl::Float16>(5, 10, tl::to_float16);
  CHECK(tl::to_float16(65519.9f).bits == 0x7bff);
  CHECK(tl::to_float16(65520.0f).bits == 0x7c00);  // half way to what would be next
  CHECK(tl::to_float16(-1e30f).bits == 0xfc00);
  CHECK(tl::to_float16(1e-30f).bits == 0);
  CHECK(tl::to_float16(-1e-30f).bits == 0x8000);
}

TEST_CASE("all 65,536 numbers of bf16 are read and rounded to right") {
  check_half<tl::BFloat16>(8, 7, tl::to_bfloat16);
  CHECK(tl::to_bfloat16(std::numeric_limits<float>::max()).bits == 0x7f80);
  CHECK(
      std::isnan(tl::to_float(tl::to_bfloat16(std::bit_cast<float>(0x7f800001u)))));  // its payload is in the cut bits
}

TEST_CASE("a second GPU is refused, not taken for the first") {
  CHECK_THROWS_WITH_AS(Tensor::zeros({2}, DType::f32, {tl::DeviceType::cuda, 1}),
                       "allocate: there is no cuda:1 for tl, which uses one GPU. Hint: choose it by "
                       "CUDA_VISIBLE_DEVICES, and call it cuda:0.",
                       tl::DeviceError);
}

TEST_CASE("a device that is not there is named") {
  if (tl::cuda_available()) TL_SKIP("there is a CUDA device");
  CHECK_THROWS_AS(Tensor::zeros({2}, DType::f32, tl::kCuda), tl::DeviceError);
  CHECK_THROWS_AS(Tensor::zeros({2}).to(tl::kCuda), tl::DeviceError);
  if (tl::cuda_backend() == nullptr)
    CHECK_THROWS_WITH_AS(Tensor::zeros({2}).to(tl::kCuda),
                         "allocate: this program was built without CUDA. Hint: link tl::cuda, or use --device cpu.",
                         tl::DeviceError);
}

}  // namespace
