// Which pretrained network should learn your pictures, and how? Looks at a few hundred of them and says, before
// anything is trained.
//
//   recommend_images PICTURES --weights efficientnet_lite0.safetensors mobilenet_v2.safetensors
//   squeezenet1_1.safetensors
//
// Each network's features are compared with the labels (LogME; LEEP and NCE too, where the file still has the head it
// was pretrained with), a few steps are timed, and the number of pictures decides between a head on frozen features and
// learning all layers. A warning says when the pictures look unlike everything that the networks know.
#include "common/program.hpp"

#include "common/pictures.hpp"
#include "tl/train/recommend.hpp"

namespace {

using tl::text;

/// One row of the table; scores that a file cannot give are left out.
void print_row(const tl::CandidateReport& report) {
  const auto cell = [](double value) {
    char buffer[16];
    std::snprintf(buffer, sizeof buffer, "%.3f", value);
    return value == value ? std::string(buffer) : std::string("-");
  };
  std::printf("%-28s %4lld %9.2f %8s %8s %7.1f %8s %8s %8s %9.2f %9.2f\n",
              std::filesystem::path(report.weights).filename().string().c_str(), static_cast<long long>(report.size),
              1e-6 * static_cast<double>(report.parameters), cell(report.log_me).c_str(), cell(report.chance).c_str(),
              report.above_chance(), cell(report.shrunk_h_score).c_str(), cell(report.leep).c_str(),
              cell(report.nce).c_str(), 1e3 * report.forward_seconds, 1e3 * report.step_seconds);
}

nlohmann::json to_json(const tl::CandidateReport& report) {
  using example::number;
  return {{"weights", report.weights},
          {"arch", report.arch},
          {"parameters", report.parameters},
          {"features", report.features},
          {"size", report.size},
          {"log_me", number(report.log_me)},
          {"chance", number(report.chance)},
          {"above_chance", number(report.above_chance())},
          {"shrunk_h_score", number(report.shrunk_h_score)},
          {"trans_rate", number(report.trans_rate)},
          {"leep", number(report.leep)},
          {"nce", number(report.nce)},
          {"source_entropy", number(report.source_entropy)},
          {"forward_seconds", number(report.forward_seconds)},
          {"step_seconds", number(report.step_seconds)},
          {"unlike", report.unlike()}};
}

nlohmann::json to_json(const tl::Choice& choice) {
  using example::number;
  return {{"weights", choice.weights},
          {"arch", choice.arch},
          {"strategy", choice.strategy},
          {"epochs", choice.options.epochs},
          {"weight_decay", choice.options.weight_decay},
          {"epoch_seconds", number(choice.epoch_seconds)},
          {"seconds", number(choice.seconds)},
          {"why", choice.why}};
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Says which pretrained network suits your pictures, and how to teach it.", "recommend_images");
  example::CommonOptions common;
  example::PictureOptions pictures;
  std::vector<std::string> weights;
  std::string arch;
  tl::RecommendOptions options;
  int64_t shown = 6;
  pictures.add_to(app);
  common.add_to(app);
  app.add_option("--weights", weights, "files from weights/fetch.py or weights/convert.py, to choose from")->required();
  app.add_option("--arch", arch, "architecture, for weights that do not say it");
  app.add_option("--pictures", options.pictures, "how many training pictures to look at, at most")
      ->check(example::count(4, 100000))
      ->capture_default_str();
  app.add_option("--batch", options.batch)->check(example::count())->capture_default_str();
  app.add_option("--shuffles", options.shuffles, "labellings at random to compare with")
      ->check(example::count(2, 1000))
      ->capture_default_str();
  app.add_option("--show", shown, "how many choices to print")->check(example::count())->capture_default_str();

  return example::run(app, argc, argv, [&] {
    const tl::Device device = common.apply();
    tl::require<tl::UsageError>(device.is_cpu() || common.device == "auto",
                                "--device cuda: convolutions run on the CPU in this version");
    pictures.seed = options.seed = common.seed;
    options.screen = common.screen();
    const example::PictureData data = example::open_pictures(pictures);
    std::vector<tl::Candidate> candidates;
    for (const auto& file : weights) candidates.push_back({file, arch});

    const tl::View train(data.train_data, data.train, tl::eval_transform({}));
    const tl::Recommendation advice = tl::recommend(candidates, train, options);

    std::printf("%lld training pictures, %lld looked at\n\n", static_cast<long long>(advice.train_pictures),
                static_cast<long long>(advice.scored_pictures));
    std::printf("%-28s %4s %9s %8s %8s %7s %8s %8s %8s %9s %9s\n", "weights", "size", "M params", "LogME", "chance",
                "above", "H-score", "LEEP", "NCE", "ms/pict.", "ms/step");
    for (const auto& report : advice.candidates) print_row(report);
    std::printf("\n");
    for (size_t i = 0; i < advice.choices.size() && i < static_cast<size_t>(shown); ++i)
      std::printf("%zu. %s\n", i + 1, advice.choices[i].why.c_str());
    if (!advice.warning.empty()) std::fprintf(stderr, "warning: %s\n", advice.warning.c_str());

    nlohmann::json candidates_json = nlohmann::json::array(), choices_json = nlohmann::json::array();
    for (const auto& report : advice.candidates) candidates_json.push_back(to_json(report));
    for (const auto& choice : advice.choices) choices_json.push_back(to_json(choice));
    example::print_json({{"train_images", advice.train_pictures},
                         {"scored_images", advice.scored_pictures},
                         {"weights", advice.choices[0].weights},
                         {"strategy", advice.choices[0].strategy},
                         {"why", advice.why},
                         {"warning", advice.warning},
                         {"choices", choices_json},
                         {"candidates", candidates_json}});
    return 0;
  });
}
