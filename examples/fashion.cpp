// Which article of clothing is it, and which others look like it?
//
// You learn: features that were learnt on photographs serve for small grey drawings as well. A head on them tells
// classes apart; the angle between them finds similar items without any training, which is how a shop recommends.
//
//   apt install dataset-fashion-mnist
//   ./fashion /usr/share/datasets/fashion-mnist --weights efficientnet_lite0.safetensors --report out
//
// Expected (seed 0, 1,000 pictures to learn from, 1,000 others to ask about): an accuracy of 0.829; of the five items
// that look most alike 75 % are of the same class, from 94 % for trousers to 44 % for shirts, which look like T-shirts,
// pullovers and coats. out/similar.png shows some, those of another class framed in red.
#include "common/program.hpp"

#include "common/pictures.hpp"
#include "common/sheet.hpp"
#include "tl/tl.hpp"

using namespace tl;

namespace {

/// Rows of length 1: their products are the cosines of the angles between features.
Tensor unit_rows(const Tensor& x) { return x / sqrt(sum(square(x), {1}, /*keep=*/true) + 1e-12); }

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Tells articles of clothing apart, and finds similar ones.", "fashion");
  example::CommonOptions common;
  example::PictureOptions pictures{
      .usual_names = {"T-shirt", "trousers", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot"},
      .per_class = 100,
      .val_limit = 1000};
  std::string weights, report;
  int64_t neighbours = 5;
  pictures.add_to(app);
  common.add_to(app);
  app.add_option("--weights", weights, "pretrained weights")->required();
  app.add_option("--neighbours", neighbours, "similar items of each")->check(example::count())->capture_default_str();
  app.add_option("--report", report, "folder for a picture of items and what is similar")->check(example::new_folder());

  return example::run(app, argc, argv, [&] {
    common.apply();
    pictures.seed = common.seed;
    models::ImageModel model = models::load_image_model(weights);
    const example::PictureData data = example::open_pictures(pictures);
    const Pipeline transform = eval_transform(example::with_size(model.info.preprocess, pictures.size));
    check_classes(View(data.train_data, data.train, transform), View(data.val_data, data.val, transform));
    const auto& names = data.train_data->classes();
    const auto classes = std::ssize(names);
    auto& net = *model.net;
    net.replace_head(classes);
    freeze_all_but(net, net.head_name());

    // The network looks at each picture once. Grey becomes three equal channels, 28 pixels become what it is used to.
    const auto features_of = [&](const std::shared_ptr<PictureDataset>& from, const std::vector<int64_t>& positions) {
      Loader loader(View(from, positions, transform));
      return extract_features(net, loader, [&](const Tensor& x) { return net.features(x); });
    };
    const Stopwatch watch;
    const FeatureSet stock = features_of(data.train_data, data.train), asked = features_of(data.val_data, data.val);
    const double extraction = watch.seconds();

    // Which article? A linear classifier on the features.
    TensorSource train(stock.x, stock.y, {.batch = 32, .shuffle = true, .seed = common.seed});
    TensorSource val(asked.x, asked.y, {.batch = 256});
    optim::AdamW optimizer(optim::param_groups(net, 3e-3, 1e-2));
    FitOptions options;
    options.epochs = 40;
    options.schedule = optim::one_cycle(options.epochs * train.batches());
    options.forward = [&](const Tensor& x) { return net.classify(x); };
    options.validate_every = options.epochs;
    const FitResult result = fit(net, optimizer, train, &val, classes, options);

    // What looks like it? The items of the stock with the smallest angle. It counts how many are of the same class.
    const Tensor cosines = matmul(unit_rows(asked.x), unit_rows(stock.x), {.transpose_b = true});
    const Tensor nearest = top_k(cosines, std::min(neighbours, stock.x.size(0))).indices;
    std::vector<Mean> precision(static_cast<size_t>(classes));
    std::vector<std::vector<example::Tile>> sheet(static_cast<size_t>(classes));  // the first item of each class
    for (int64_t i = 0; i < nearest.size(0); ++i) {
      const auto own = static_cast<size_t>(asked.y.data<int32_t>()[i]);
      const bool shown = sheet[own].empty();
      if (shown) sheet[own].push_back({data.val_data->picture(asked.indices[static_cast<size_t>(i)])});
      for (const int32_t other : nearest.values<int32_t>().subspan(static_cast<size_t>(i * nearest.size(1)),
                                                                   static_cast<size_t>(nearest.size(1)))) {
        const bool same = stock.y.data<int32_t>()[other] == static_cast<int32_t>(own);
        precision[own].add(same ? 1 : 0);
        if (shown)
          sheet[own].push_back({data.train_data->picture(stock.indices[static_cast<size_t>(other)]),
                                same ? example::kGreen : example::kRed});
      }
    }
    if (!report.empty()) example::save_sheet(report, "similar.png", sheet);

    Mean overall;
    nlohmann::json by_class;
    for (size_t c = 0; c < precision.size(); ++c) {
      overall.add(precision[c]);
      by_class[names[c]] = example::number(precision[c].value());
      std::printf("%-12s %5.1f %% of the %lld nearest are of the same class\n", names[c].c_str(),
                  100 * precision[c].value(), static_cast<long long>(neighbours));
    }
    example::print_json({{"val_accuracy", example::number(result.last_accuracy)},
                         {"precision", example::number(overall.value())},
                         {"precision_by_class", by_class},
                         {"train_images", stock.x.size(0)},
                         {"val_images", asked.x.size(0)},
                         {"extraction_seconds", extraction},
                         {"seconds", watch.seconds()}});
    return 0;
  });
}
