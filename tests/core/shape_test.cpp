// Shapes, element types, text and errors.
#include <limits>
#include <string>

#include "support.hpp"
#include "tl/core/cpu_features.hpp"
#include "tl/core/device.hpp"
#include "tl/core/dtype.hpp"
#include "tl/core/error.hpp"
#include "tl/core/function_ref.hpp"
#include "tl/core/shape.hpp"
#include "tl/core/text.hpp"

namespace {

using tl::Shape;

constexpr int64_t kHuge = std::numeric_limits<int64_t>::max();

TEST_CASE("a shape knows its sizes, counted from both ends") {
  const Shape shape{2, 3, 5};
  CHECK(shape.rank() == 3);
  CHECK(shape.numel() == 30);
  CHECK(shape[0] == 2);
  CHECK(shape[-1] == 5);
  CHECK(shape.with(1, 7) == Shape{2, 7, 5});
  CHECK(shape.without(-1) == Shape{2, 3});
  CHECK(shape.product(1, 3) == 15);
  CHECK(shape.product(2, 2) == 1);
  CHECK(Shape{}.numel() == 1);
  CHECK(Shape{}.rank() == 0);
  CHECK(Shape{4, 0}.numel() == 0);
  CHECK_FALSE(Shape{2, 3} == Shape{2, 3, 1});
  CHECK(tl::text(Shape{}, Shape{1}, shape) == "[][1][2, 3, 5]");
}

TEST_CASE("shapes that cannot be are refused") {
  CHECK_THROWS_WITH_AS((Shape{1, 1, 1, 1, 1, 1, 1}), "shape: at most 6 dimensions", tl::ShapeError);
  CHECK_THROWS_WITH_AS((Shape{2, -1}), "shape: a size must not be negative, got -1", tl::ShapeError);
  CHECK_THROWS_WITH_AS((Shape{2, 3}[2]), "shape: axis 2 is outside of a tensor with 2 dimensions", tl::ShapeError);
  CHECK_THROWS_WITH_AS((Shape{2, 3}.axis(-3, "sum")), "sum: axis -3 is outside of a tensor with 2 dimensions",
                       tl::ShapeError);
}

TEST_CASE("element counts and byte counts do not overflow") {
  CHECK_THROWS_WITH_AS((Shape{kHuge, 2}), "shape: the number of elements overflows", tl::ShapeError);
  CHECK_THROWS_AS((Shape{kHuge}), tl::ShapeError);  // times 8 bytes
  CHECK_THROWS_AS((Shape{int64_t{1} << 32, int64_t{1} << 32}), tl::ShapeError);
  CHECK_THROWS_AS((Shape{1 << 20, 1 << 20, 1 << 20, 1 << 20}), tl::ShapeError);
  CHECK((Shape{kHuge / 16}).numel() == kHuge / 16);
  CHECK_THROWS_AS((Shape{1, 2}.with(0, kHuge)), tl::ShapeError);
}

TEST_CASE("a size of zero does not hide an overflow of the others") {
  CHECK((Shape{0, 1000, 1000}).numel() == 0);
  CHECK_THROWS_AS((Shape{0, int64_t{1} << 40, int64_t{1} << 40}), tl::ShapeError);  // its strides would
  CHECK_THROWS_AS((Shape{int64_t{1} << 40, 0, int64_t{1} << 40}), tl::ShapeError);
}

TEST_CASE("element types have sizes and names") {
  using tl::DType;
  const std::tuple<DType, size_t, const char*> all[] = {
      {DType::f32, 4, "f32"}, {DType::f64, 8, "f64"}, {DType::bf16, 2, "bf16"},
      {DType::f16, 2, "f16"}, {DType::i8, 1, "i8"},   {DType::u8, 1, "u8"},
      {DType::i32, 4, "i32"}, {DType::i64, 8, "i64"}, {DType::boolean, 1, "bool"}};
  for (const auto& [dtype, size, name] : all) {
    CHECK(size_of(dtype) == size);
    CHECK(tl::text(dtype) == name);
  }
  CHECK(is_floating(DType::bf16));
  CHECK_FALSE(is_floating(DType::i32));
  static_assert(tl::dtype_of<float> == DType::f32 && tl::dtype_of<bool> == DType::boolean);
}

TEST_CASE("text joins values of any kind") {
  CHECK(tl::text("a", 'b', 3, -4, 2.5, 1e-20, true, std::string("s"), tl::kCpu, tl::kCuda) ==
        "ab3-42.51e-20truescpucuda:0");
  CHECK(tl::text() == "");
  CHECK(tl::text(uint8_t{200}, int8_t{-3}, size_t{1} << 63) == "200-39223372036854775808");
}

TEST_CASE("errors have a type, a stable code and one text") {
  CHECK(static_cast<int>(tl::ShapeError("x").code()) == 1);
  CHECK(static_cast<int>(tl::DTypeError("x").code()) == 2);
  CHECK(static_cast<int>(tl::DeviceError("x").code()) == 3);
  CHECK(static_cast<int>(tl::UsageError("x").code()) == 4);
  CHECK(static_cast<int>(tl::NumericError("x").code()) == 5);
  CHECK(static_cast<int>(tl::StateDictError("x").code()) == 6);
  CHECK(static_cast<int>(tl::IoError("x").code()) == 7);
  CHECK(static_cast<int>(tl::CudaError("x").code()) == 9);

  const tl::FormatError format("net.safetensors", "conv1.weight", 1234, "the data ends early");
  CHECK(static_cast<int>(format.code()) == 8);
  CHECK(std::string(format.what()) == "net.safetensors: conv1.weight: the data ends early (at byte 1234)");
  CHECK(format.byte_offset() == 1234);
  CHECK(std::string(tl::FormatError("a.png", "", 0, "no picture").what()) == "a.png: no picture (at byte 0)");

  try {
    tl::require<tl::UsageError>(false, "answer: expected ", 42, ", got ", Shape{1});
    FAIL("require passed");
  } catch (const std::runtime_error& error) {
    CHECK(std::string(error.what()) == "answer: expected 42, got [1]");
  }
}

TEST_CASE("instruction sets are named, compared and refused") {
  CHECK(tl::parse_isa("baseline") == tl::Isa::baseline);
  CHECK(tl::parse_isa(tl::name_of(tl::best_isa())) == tl::best_isa());
  CHECK(tl::active_isa() <= tl::best_isa());
  CHECK_THROWS_WITH_AS(tl::parse_isa("sse9"), "TL_ISA=sse9: expected baseline, avx2 or avx512", tl::UsageError);
  if (tl::best_isa() < tl::Isa::avx512) CHECK_THROWS_AS(tl::parse_isa("avx512"), tl::UsageError);
}

TEST_CASE("a function reference calls what it refers to, with its state") {
  int sum = 0;
  auto add = [&sum](int x) { return sum += x; };
  const tl::FunctionRef<int(int)> f = add;
  CHECK(f(3) == 3);
  CHECK(f(4) == 7);
  CHECK(sum == 7);
}

}  // namespace
