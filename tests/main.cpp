// Entry point of every test program.
#define DOCTEST_CONFIG_IMPLEMENT
#include "support.hpp"

#include <cstdio>
#include <fstream>
#include <mutex>
#include <vector>

namespace {

constexpr int kExitSkipped = 77;  // CTest's SKIP_RETURN_CODE

struct Record {
  std::mutex mutex;
  std::string test_case;
  std::vector<std::string> skips;
  unsigned ran = 0;
};

Record& record() {
  static Record instance;
  return instance;
}

struct Listener : doctest::IReporter {
  explicit Listener(const doctest::ContextOptions&) {}
  void report_query(const doctest::QueryData&) override {}
  void test_run_start() override {}
  void test_run_end(const doctest::TestRunStats&) override {}
  void test_case_start(const doctest::TestCaseData& data) override {
    record().test_case = data.m_name;
    ++record().ran;
  }
  void test_case_reenter(const doctest::TestCaseData&) override {}
  void test_case_end(const doctest::CurrentTestCaseStats&) override {}
  void test_case_exception(const doctest::TestCaseException&) override {}
  void subcase_start(const doctest::SubcaseSignature&) override {}
  void subcase_end() override {}
  void log_assert(const doctest::AssertData&) override {}
  void log_message(const doctest::MessageData&) override {}
  void test_case_skipped(const doctest::TestCaseData&) override {}
};

}  // namespace

void tl_test::note_skip(const std::string& reason) {
  auto& state = record();
  const std::lock_guard lock(state.mutex);
  state.skips.push_back(state.test_case + ": " + reason);
}

DOCTEST_REGISTER_LISTENER("skips", 1, Listener);

int main(int argc, char** argv) {
  doctest::Context context(argc, argv);
  const int status = context.run();
  if (context.shouldExit()) return status;

  const auto& state = record();
  const char* log_path = std::getenv("TL_SKIP_LOG");
  if (log_path) std::filesystem::remove(log_path);
  if (!state.skips.empty()) {
    std::ofstream log;
    if (log_path) log.open(log_path);
    for (const auto& skip : state.skips) {
      std::printf("skipped: %s\n", skip.c_str());
      log << skip << '\n';
    }
  }
  if (status == 0 && state.ran != 0 && state.ran == state.skips.size()) return kExitSkipped;
  return status;
}
