// Lecture 3: somebody else's network, loaded and looked into.
//
// You learn: what a weight file carries besides numbers, how its names find their places, and how to take the features
// of any layer.
//
//   python3 weights/fetch.py efficientnet_lite0 --out weights
//   ./03_load_pretrained weights/efficientnet_lite0.safetensors cat.jpg --layer blocks.4
//
// Expected, with that file and a picture of a cat: class 281 to 285 (ImageNet's cats), and a map [1, 14, 14, 112].
#include "common/program.hpp"

#include "tl/tl.hpp"

using namespace tl;

int main(int argc, char** argv) {
  CLI::App app("Loads a pretrained network, predicts, and shows a layer's features.", "03_load_pretrained");
  example::CommonOptions common;
  std::string weights, picture, layer;
  common.add_to(app);
  app.add_option("weights", weights, "file from weights/fetch.py or weights/convert.py")->required();
  app.add_option("picture", picture, "a JPEG, PNG, BMP or PPM file")->required();
  app.add_option("--layer", layer, "module whose output to look at; empty: the head's input");

  return example::run(app, argc, argv, [&] {
    common.apply();
    // The file says which architecture it is, how pictures are prepared, and the constants that no tensor holds, such
    // as BatchNorm's epsilon. Loading is strict: one missing or misshaped tensor is an error that lists all of them.
    models::ImageModel model = models::load_image_model(weights);
    std::printf("%s: %lld of %lld tensors loaded, %lld parameters\n", model.info.arch.c_str(),
                static_cast<long long>(model.report.matched), static_cast<long long>(model.report.total),
                static_cast<long long>(nn::parameter_count(*model.net)));
    for (const auto& note : model.report.notes) std::printf("note: %s\n", note.c_str());

    // Modules have the names of the reference library, and print as a tree.
    const std::string tree = nn::to_string(*model.net);
    std::printf("%s...\n", tree.substr(0, tree.find("(conv_pw)")).c_str());

    // Preparing a picture is part of the model, not of the program.
    const Preprocess& input = model.info.preprocess;
    Tensor x = Tensor::empty({1, input.size, input.size, input.channels()});
    eval_transform(input)(load_image(picture), x.mutable_data<float>());

    model.net->eval();
    const NoGrad no_grad;
    const Tensor logits = (*model.net)(x);
    const TopK best = top_k(softmax(logits), std::min<int64_t>(5, logits.size(1)));
    for (int64_t i = 0; i < best.values.size(1); ++i) {
      const auto c = static_cast<size_t>(best.indices.data<int32_t>()[i]);
      std::printf("%5zu  %.4f  %s\n", c, static_cast<double>(best.values.data<float>()[i]),
                  c < model.info.classes.size() ? model.info.classes[c].c_str() : "");
    }
    const Tensor features = layer.empty() ? model.net->features(x) : models::features_at(*model.net, x, layer);
    example::print_json({{"class", best.indices.data<int32_t>()[0]},
                         {"probability", example::number(static_cast<double>(best.values.data<float>()[0]))},
                         {"features", text(features.shape())}});
    return 0;
  });
}
