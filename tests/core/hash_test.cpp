#include <string>
#include <vector>

#include "support.hpp"
#include "tl/core/hash.hpp"

namespace {

using tl::Hash;

uint64_t hash_of(std::string_view text) { return Hash().add(text.data(), text.size()).value(); }

TEST_CASE("Hash gives the published values of XXH64") {
  CHECK(tl::to_hex(hash_of("")) == "ef46db3751d8e999");
  CHECK(tl::to_hex(hash_of("a")) == "d24ec4f1a98c6e5b");
  CHECK(tl::to_hex(hash_of("abc")) == "44bc2cf5ad770999");
  CHECK(tl::to_hex(hash_of("Nobody inspects the spammish repetition")) == "fbcea83c8a378bf1");
}

TEST_CASE("Hash does not depend on how the bytes were divided, but texts keep their ends") {
  std::string text;
  for (int i = 0; i < 100; ++i) text += static_cast<char>(i * 7);
  for (size_t size = 0; size <= text.size(); ++size)
    for (const size_t part : {size_t{1}, size_t{5}, size_t{31}, size_t{32}, size_t{33}}) {
      Hash divided;
      for (size_t at = 0; at < size; at += part) divided.add(text.data() + at, std::min(part, size - at));
      CHECK(divided.value() == hash_of(text.substr(0, size)));
    }
  CHECK(Hash().add("ab").add("c").value() != Hash().add("a").add("bc").value());
}

}  // namespace
