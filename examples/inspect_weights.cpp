// Shows what is in a weight file: the tensors, and what its metadata says.
//
//   inspect_weights efficientnet_lite0.safetensors
#include "common/program.hpp"

#include <algorithm>

#include "tl/io/safetensors.hpp"

namespace {

/// A running statistic or a counter is part of a network's state, but nothing that was learnt.
bool is_buffer(const std::string& name) {
  return name.ends_with("running_mean") || name.ends_with("running_var") || name.ends_with("num_batches_tracked");
}

/// Text from a file for a terminal: no control characters, and not too long.
std::string printable(const std::string& text, size_t width) {
  std::string out;
  for (const char c : text.substr(0, width)) out += static_cast<unsigned char>(c) < 32 || c == 127 ? '?' : c;
  return text.size() > width ? out + "..." : out;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Shows what is in a weight file.", "inspect_weights");
  example::CommonOptions common;
  std::string path;
  app.add_option("file", path, "safetensors file")->required();
  common.add_to(app);

  return example::run(app, argc, argv, [&] {
    const tl::SafetensorsFile file(path);
    size_t width = 4;
    for (const auto& [name, entry] : file.entries()) width = std::max(width, std::min<size_t>(name.size(), 60));
    int64_t parameters = 0;
    std::printf("%-*s  %-5s  %-20s  %12s\n", static_cast<int>(width), "name", "type", "shape", "bytes");
    for (const auto& [name, entry] : file.entries()) {
      std::printf("%-*s  %-5s  %-20s  %12llu\n", static_cast<int>(width), printable(name, 60).c_str(),
                  entry.dtype.c_str(), tl::text(entry.shape).c_str(),
                  static_cast<unsigned long long>(entry.end - entry.begin));
      if (!is_buffer(name) && entry.dtype != "I64") parameters += entry.shape.numel();
    }
    for (const auto& [key, value] : file.metadata())
      std::printf("%s: %s\n", printable(key, 60).c_str(), printable(value, 200).c_str());
    const auto arch = file.metadata().find("arch");
    example::print_json(
        {{"tensors", file.entries().size()},
         {"parameters", parameters},
         {"bytes", file.data_bytes()},
         {"arch", arch == file.metadata().end() ? nlohmann::json(nullptr) : nlohmann::json(arch->second)}});
    return 0;
  });
}
