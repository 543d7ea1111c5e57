// Warnings.
#include <algorithm>
#include <string>
#include <thread>
#include <vector>

#include "support.hpp"
#include "tl/core/log.hpp"

namespace {

TEST_CASE("warnings reach the handler, which can be exchanged and restored") {
  std::vector<std::string> seen;
  tl::WarningHandler before = tl::set_warning_handler([&](std::string_view text) { seen.emplace_back(text); });
  tl::warn("one");
  const tl::WarningHandler first = tl::set_warning_handler([](std::string_view) {});
  tl::warn("two");
  tl::set_warning_handler(first);
  tl::warn("three");
  tl::set_warning_handler(before);
  CHECK(seen == std::vector<std::string>{"one", "three"});
}

TEST_CASE("warnings of several threads do not overlap") {
  int inside = 0, most = 0, count = 0;
  tl::WarningHandler before = tl::set_warning_handler([&](std::string_view) {
    most = std::max(most, ++inside);
    std::this_thread::yield();
    --inside, ++count;
  });
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([] {
      for (int i = 0; i < 100; ++i) tl::warn("again");
    });
  for (auto& thread : threads) thread.join();
  tl::set_warning_handler(before);
  CHECK(most == 1);
  CHECK(count == 400);
}

}  // namespace
