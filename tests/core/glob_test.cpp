// Patterns over dotted names.
#include <string>

#include "support.hpp"
#include "tl/core/glob.hpp"

namespace {

using tl::glob_match;

TEST_CASE("globs match whole dotted names") {
  struct Row {
    const char *pattern, *name;
    bool matches;
  };
  const Row rows[] = {
      {"fc.weight", "fc.weight", true},
      {"fc.weight", "fc.weight2", false},
      {"fc", "fc.weight", false},
      {"", "", true},
      {"", "a", false},
      {"*", "fc", true},
      {"*", "", true},
      {"*", "fc.weight", false},
      {"*.weight", "fc.weight", true},
      {"*.weight", "layer1.fc.weight", false},
      {"layer1.*.weight", "layer1.conv1.weight", true},
      {"layer1.*.weight", "layer1.0.conv1.weight", false},
      {"layer1.*.*.weight", "layer1.0.conv1.weight", true},
      {"layer*", "layer12", true},
      {"l*r*2", "layer12", true},
      {"l*r*3", "layer12", false},
      {"**", "", true},
      {"**", "a.b.c", true},
      {"**.weight", "a.b.weight", true},
      {"**.weight", "weight", false},
      {"**weight", "weight", true},
      {"layer1.**", "layer1.0.conv1.weight", true},
      {"layer1.**", "layer1", true},
      {"layer1.**", "layer10.conv", false},
      {"layer1.**", "layer10", false},
      {"layer1.*", "layer1", false},
      {"layer1.**.bias", "layer1.bias", false},
      {"layer1.conv.**", "layer1", false},
      {"layer1.?", "layer1.0", true},
      {"layer[1-3].**", "layer2.0.bn1.bias", true},
      {"layer[1-3].**", "layer4.0.bn1.bias", false},
      {"layer[!4].**", "layer3.x", true},
      {"layer[!4].**", "layer4.x", false},
      {"layer[13]", "layer3", true},
      {"layer[13]", "layer2", false},
      {"layer[a-c1]", "layer1", true},
      {"layer[1-]", "layer-", true},
      {"a[!x]b", "a.b", false},
      {"a[.]b", "a.b", false},
      {"?", "a", true},
      {"?", ".", false},
      {"?", "", false},
      {"conv?.bias", "conv1.bias", true},
      {"conv?.bias", "conv.bias", false},
      {"a[", "a[", true},
      {"a[b", "a[b", true},
      {"[]", "x", false},
      {"Conv1", "conv1", false},
  };
  for (const Row& row : rows) {
    CAPTURE(std::string(row.pattern));
    CAPTURE(std::string(row.name));
    CHECK(glob_match(row.pattern, row.name) == row.matches);
  }
}

TEST_CASE("a hostile glob ends in reasonable time") {
  CHECK_FALSE(glob_match("*a*a*a*a*a*a*a*a*a*a*a*a*b", std::string(60, 'a')));
  CHECK_FALSE(glob_match("**a**a**a**a**a**a**a**a**a**a**b", std::string(60, 'a')));
}

}  // namespace
