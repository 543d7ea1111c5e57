#include "tl/train/report.hpp"

#include <unistd.h>

#include <cctype>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "support.hpp"
#include "tl/core/error.hpp"

namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();

tl::RunSummary run_with(const std::string& name, std::vector<double> accuracies, int64_t epochs = 3) {
  tl::RunSummary run{.name = name, .note = "a note"};
  for (const double accuracy : accuracies) {
    tl::RunLog log{.name = name, .seed = run.seeds.size()};
    for (int64_t e = 1; e <= epochs; ++e)
      log.epochs.push_back({.epoch = e,
                            .train_loss = 2.0 / static_cast<double>(e),
                            .train_accuracy = accuracy + 0.01,
                            .val_loss = 2.5 / static_cast<double>(e),
                            .val_accuracy = accuracy,
                            .rates = {{"head", 1e-3}, {"rest", 1e-4}},
                            .seconds = 20,
                            .peak_bytes = 642'000'000,
                            .trainable_parameters = 3'374'144});
    run.seeds.push_back(log);
  }
  return run;
}

tl::Report sample() {
  tl::ConfusionMatrix matrix(3);
  matrix.add(0, 0, 3);
  matrix.add(0, 1, 1);
  matrix.add(1, 1, 4);
  return {
      .title = "Ants and bees",
      .facts = {{"Model", "EfficientNet-Lite0"}},
      .warnings = {"2 pictures are in training and in validation"},
      .runs = {run_with("features", {0.8, 0.82}), run_with("finetune", {0.9, 0.94}), run_with("scratch", {0.5, 0.5})},
      .judged_run = "finetune",
      .classes = {"ant", "bee", ""},
      .confusion = matrix,
      .mistakes =
          {{.bytes = "Man", .truth = "ant", .prediction = "bee", .probability = 0.987, .file = "val/ant/1.jpg"}},
      .examples = {{.mime = "image/png", .bytes = "Ma", .truth = "ant", .prediction = "ant", .probability = 1},
                   {.bytes = "M", .prediction = "bee"}}};
}

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

int64_t count_of(const std::string& text, const std::string& part) {
  int64_t count = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + part.size())) ++count;
  return count;
}

/// What is wrong with the nesting of tags, the quoting of attributes or the entities of a page, if anything. The pages
/// are XML below their doctype.
std::string first_flaw(std::string_view page) {
  const auto take = [&page](auto belongs) {
    size_t length = 0;
    while (length < page.size() && belongs(page[length])) ++length;
    const std::string taken(page.substr(0, length));
    page.remove_prefix(length);
    return taken;
  };
  const auto skip = [&page](std::string_view part) {
    if (!page.starts_with(part)) return false;
    page.remove_prefix(part.size());
    return true;
  };
  const auto is_name = [](char c) { return std::isalnum(static_cast<unsigned char>(c)) || c == '-'; };
  const auto is_space = [](char c) { return c == ' '; };
  const auto flaw_of_text = [](const std::string& content) -> std::string {
    for (size_t i = 0; i < content.size(); ++i) {
      if (static_cast<unsigned char>(content[i]) < 0x20 && content[i] != '\n') return "a control character";
      if (content[i] != '&') continue;
      const std::string entity = content.substr(i, content.find(';', i) + 1 - i);
      if (!std::set<std::string>{"&amp;", "&lt;", "&gt;", "&quot;", "&#39;"}.contains(entity)) return entity;
    }
    return "";
  };

  if (!skip("<!DOCTYPE html>")) return "no doctype";
  std::vector<std::string> open;
  while (!page.empty()) {
    if (const auto flaw = flaw_of_text(take([](char c) { return c != '<'; })); !flaw.empty()) return flaw;
    if (!skip("<")) break;
    const bool closes = skip("/");
    const std::string name = take(is_name);
    while (!take(is_space).empty()) {
      const std::string attribute = take(is_name);
      if (attribute.empty()) break;
      const char quote = skip("='") ? '\'' : skip("=\"") ? '"' : 0;
      if (!quote) return name + ' ' + attribute + " has no quotes";
      const std::string value = take([quote](char c) { return c != quote && c != '<'; });
      if (const auto flaw = flaw_of_text(value); !flaw.empty()) return flaw;
      if (!skip(std::string(1, quote))) return name + ' ' + attribute + " does not end";
    }
    const bool is_empty = skip("/");
    if (name.empty() || !skip(">")) return "a tag does not end: " + name;
    if (!closes && !is_empty) open.push_back(name);
    if (!closes) continue;
    if (open.empty() || open.back() != name)
      return "</" + name + "> closes " + (open.empty() ? "nothing" : open.back());
    open.pop_back();
  }
  return open.empty() ? "" : open.back() + " is not closed";
}

/// The charts of a page.
std::string charts_of(const std::string& page) {
  const size_t first = page.find("<div class='charts'>");
  return page.substr(first, page.find("</section>", first) - first);
}

}  // namespace

TEST_CASE("The check of pages finds flaws") {
  CHECK(first_flaw("<!DOCTYPE html><p class='a' id=\"b\">&amp;<br/></p>\n") == "");
  for (const char* flawed : {"<p></p>", "<!DOCTYPE html><p>", "<!DOCTYPE html></p>", "<!DOCTYPE html><b><i></b></i>",
                             "<!DOCTYPE html><p class=a></p>", "<!DOCTYPE html><p class='a></p>",
                             "<!DOCTYPE html><p class='a'b'></p>", "<!DOCTYPE html>a & b", "<!DOCTYPE html>\x01"})
    CHECK_MESSAGE(first_flaw(flawed) != "", flawed);
}

TEST_CASE("The page says what was run, side by side") {
  const std::string page = tl::render_html(sample());
  CHECK(first_flaw(page) == "");
  CHECK(contains(page, "<title>Ants and bees</title>"));
  CHECK(contains(page,
                 "92.0\u00A0% ± 2.8 validation accuracy with finetune (mean of 2 seeds), 11.0 points above features, "
                 "42.0 above scratch."));
  CHECK(contains(page, "<dt>Model</dt><dd>EfficientNet-Lite0</dd>"));
  CHECK(contains(page, "<li>2 pictures are in training and in validation</li>"));
  CHECK(contains(page, "81.0\u00A0% ± 1.4"));
  CHECK(contains(page, "1 min 00 s"));
  CHECK(contains(page, "642\u00A0MB"));
  CHECK(contains(page, "3,374,144"));
  CHECK(count_of(page, "<span class='best'>") == 1);
  CHECK(count_of(page, "<figure class='card'><figcaption>") == 4);  // accuracy, loss, learning rate, and by group
  CHECK(contains(page, "highest of the groups"));

  // ant: 3 of 4 found, nothing else called so; bee: all 4 found, 5 called so; the third class has no name and no sample
  CHECK(contains(page,
                 "Validation of finetune: 8 pictures, accuracy 87.5\u00A0%, balanced accuracy 87.5\u00A0%, macro F1 "
                 "87.3\u00A0%."));
  CHECK(contains(page, "title='ant taken for bee: 25.0\u00A0%'>1</td>"));
  CHECK(contains(page, "<th scope='row'>class 2</th><td class='number'>0</td><td class='number'>–</td>"));
  CHECK(page.find("<th scope='row'>ant</th><td class='number'>4") <
        page.find("<th scope='row'>bee</th><td class='number'>4"));

  CHECK(contains(page, "<img alt='ant taken for bee' src='data:image/jpeg;base64,TWFu'/>"));
  CHECK(contains(page, "src='data:image/png;base64,TWE='/>"));
  CHECK(contains(page, "<img alt='bee' src='data:image/jpeg;base64,TQ=='/>"));
  CHECK(contains(page,
                 "<span class='said'>bee</span> <span class='muted'>99\u00A0%</span><br/><span class='muted'>is ant"));
  CHECK(contains(page, "val/ant/1.jpg"));
}

TEST_CASE("The page needs nothing but itself") {
  const std::string page = tl::render_html(sample());
  for (const char* part : {"http:", "https:", "<script", "<link", "@import", "url(", "javascript:"})
    CHECK_MESSAGE(!contains(page, part), part);
  CHECK(contains(page, "default-src 'none'"));
  CHECK(contains(page, "prefers-color-scheme: dark"));
  CHECK(contains(page, "@media print"));
  CHECK(contains(page, "name='viewport'"));
  CHECK(count_of(page, "<img ") == count_of(page, "<img alt='"));
  CHECK(count_of(page, "<svg ") ==
        count_of(page, "role='img' aria-label='Accuracy") + count_of(page, "aria-label='Loss") +
            count_of(page, "aria-label='Learning rate") + count_of(page, "aria-label='Rate of each group") +
            2);  // two keys of the legend, hidden
}

TEST_CASE("Everything may be missing") {
  const std::string empty = tl::render_html({});
  CHECK(first_flaw(empty) == "");
  CHECK(contains(empty, "<title>Training report</title>"));
  CHECK_FALSE(contains(empty, "<h2>"));
  CHECK(nlohmann::json::parse(tl::render_json({}))["runs"].empty());
  CHECK(tl::render_text({}).empty());

  tl::Report bare{.runs = {{.name = "no seeds"}, {}}, .confusion = tl::ConfusionMatrix(0)};
  bare.runs.push_back(run_with("no epochs", {0.5}, 0));
  CHECK(first_flaw(tl::render_html(bare)) == "");
  CHECK_FALSE(contains(tl::render_html(bare), "<h2>Curves"));
  CHECK_FALSE(contains(tl::render_html(bare), "<h2>Confusion"));
  CHECK(tl::render_text(bare.runs) ==
        "run        accuracy  seeds  epochs  time  peak memory  trained\n"
        "no seeds          –      0       –     –            –        0\n"
        "                  –      0       –     –            –        0\n"
        "no epochs         –      1       0     –            –        0\n");

  // A run alone: no comparison, no names at the lines.
  const std::string alone = tl::render_html({.runs = {run_with("finetune", {0.9})}});
  CHECK(contains(alone, "90.0\u00A0% validation accuracy with finetune."));
  CHECK(contains(alone, "<h2>Result</h2>"));
  CHECK_FALSE(contains(alone, "class='best'"));
  CHECK_FALSE(contains(alone, "class='name"));
}

TEST_CASE("Of many runs the most accurate are drawn, each in a colour of its own") {
  tl::Report report;
  for (int i = 0; i < 12; ++i) report.runs.push_back(run_with(tl::text("run", i), {0.05 * i}));
  const std::string page = tl::render_html(report);
  CHECK(first_flaw(page) == "");
  CHECK(contains(page, "with run11, the best of 12 runs."));
  CHECK(contains(page, "Of the 8 most accurate runs."));
  CHECK_FALSE(contains(charts_of(page), "run3,"));
  CHECK(contains(charts_of(page), "run4,"));
  CHECK(count_of(charts_of(page), "class='name c7'") == 3);
  CHECK(count_of(page, "<tr class='c8'>") == 4);
}

TEST_CASE("One epoch, and numbers that cannot be drawn") {
  CHECK(contains(tl::render_html({.runs = {run_with("one", {0.5}, 1)}}), "<circle "));

  tl::RunSummary odd{.name = "odd"};
  tl::RunLog& log = odd.seeds.emplace_back();
  const double values[] = {0.5, tl::kNoValue, kInf, -kInf, 1e308, -1e308, 0.25, 0.125, tl::kNoValue, 0.1};
  for (const double value : values)
    log.epochs.push_back({.epoch = static_cast<int64_t>(log.epochs.size()) + 1,
                          .train_loss = value,
                          .val_loss = value,
                          .val_accuracy = tl::kNoValue});
  tl::Report report{.runs = {odd}};
  const std::string page = tl::render_html(report);
  CHECK(first_flaw(page) == "");
  for (const char* part : {"nan", "inf", "–"}) CHECK_MESSAGE(!contains(charts_of(page), part), part);
  CHECK(count_of(page, "<polyline ") == 2);  // training and validation, each through the four that can be drawn
  CHECK(count_of(page, "<circle ") == 4);    // on validation alone
  const auto json = nlohmann::json::parse(tl::render_json(report));
  CHECK(json["runs"][0]["seeds"][0]["epochs"][2]["val_loss"].is_null());

  for (const double value : {0.0, -3.0, 1e-300, 1e29, 7.0}) {  // flat lines still have an axis
    for (auto& epoch : report.runs[0].seeds[0].epochs) epoch.train_loss = epoch.val_loss = value;
    const std::string flat = tl::render_html(report);
    CHECK(first_flaw(flat) == "");
    CHECK(count_of(flat, "<line class='grid'") >= 3);
    CHECK(count_of(flat, "<line class='grid'") <= 12);
    for (const char* part : {"nan", "inf", "–"}) CHECK_MESSAGE(!contains(charts_of(flat), part), part);
  }
}

TEST_CASE("Axes have round numbers that enclose the values") {
  tl::RunSummary run = run_with("a", {0.5}, 10);
  for (auto& epoch : run.seeds[0].epochs) epoch.rates = {{"all", 3e-4 / static_cast<double>(epoch.epoch)}};
  const std::string page = tl::render_html({.runs = {run}});
  const auto labels = [&page](const std::string& chart) {
    std::string svg = page.substr(page.find("aria-label='" + chart));
    svg = svg.substr(0, svg.find("</svg>"));
    std::vector<std::string> out;
    for (size_t at = svg.find("text-anchor='end'"); at != std::string::npos;
         at = svg.find("text-anchor='end'", at + 1)) {
      const size_t begin = svg.find('>', at) + 1;
      out.push_back(svg.substr(begin, svg.find('<', begin) - begin));
    }
    return out;
  };
  CHECK(labels("Loss") == std::vector<std::string>{"0", "1", "2", "3"});
  CHECK(labels("Learning rate") == std::vector<std::string>{"0", "0.0001", "0.0002", "0.0003", "0.0004"});
  CHECK(labels("Accuracy") == std::vector<std::string>{"49.5%", "50.0%", "50.5%", "51.0%", "51.5%"});
}

TEST_CASE("A thousand epochs make no large file, and small rates have short labels") {
  tl::RunSummary run = run_with("long", {0.5}, 1000);
  for (auto& epoch : run.seeds[0].epochs) epoch.rates = {{"all", 2e-5 / static_cast<double>(epoch.epoch)}};
  run.seeds[0].epochs.back().peak_bytes = 2'642'000'000;
  const std::string page = tl::render_html({.runs = {run}});
  const std::string charts = charts_of(page);
  CHECK(charts.size() < 30'000);
  CHECK(contains(charts, ">1e-5</text>"));
  CHECK(contains(charts, ">2e-5</text>"));
  CHECK(contains(charts, ">1000</text>"));  // the last epoch is there
  CHECK_FALSE(contains(charts, "<circle"));
  CHECK(contains(page, "2.64\u00A0GB"));
  for (auto& epoch : run.seeds[0].epochs)
    epoch.peak_bytes = 12'345, epoch.rates = {{"all", 0.00012 + 1e-8 * static_cast<double>(epoch.epoch)}};
  CHECK(contains(tl::render_text({run}), "12\u00A0kB"));
  CHECK(contains(charts_of(tl::render_html({.runs = {run}})), ">1.25e-4</text>"));
}

TEST_CASE("What learns when: bars from the epochs in which a group had a rate") {
  tl::RunSummary run = run_with("gradual", {0.5}, 4);
  auto& epochs = run.seeds[0].epochs;
  const double none = tl::kNoValue;
  const double rest[] = {none, none, 1e-4, 1e-9};
  const double early[] = {2e-5, none, none, 1e-5};
  for (size_t e = 0; e < 4; ++e) {
    epochs[e].rates = {{"fc", 1e-3},        {"fc (vectors)", 1e-3},    {"rest", rest[e]}, {"rest (vectors)", none},
                       {"early", early[e]}, {"early (vectors)", 3e-5}, {"never", none}};
    epochs[e].trainable_parameters = e < 2 ? 2562 : 4'000'000;
  }
  const std::string page = tl::render_html({.runs = {run}});
  CHECK(first_flaw(page) == "");
  const std::string section = page.substr(page.find("<h2>What learns when</h2>"));
  CHECK(contains(section,
                 "fc</th><td><span class='track' aria-hidden='true'><i style='left:0.0%;width:100.0%'></i></span>"
                 "</td><td class='number'>1–4</td><td class='number'>1.00e-3</td>"));
  CHECK(contains(section, "<i style='left:50.0%;width:50.0%'></i></span></td><td class='number'>3–4</td>"));
  CHECK(contains(section, "<td class='number'>1, 4</td><td class='number'>2.00e-5</td>"));
  CHECK(contains(section,
                 "never</th><td><span class='track' aria-hidden='true'></span></td><td class='number'>never</td>"
                 "<td class='number'>–</td>"));
  CHECK_FALSE(contains(section, "fc (vectors)"));    // as its group in every epoch
  CHECK_FALSE(contains(section, "rest (vectors)"));  // frozen throughout
  CHECK(contains(section, "early (vectors)"));       // on its own
  CHECK(contains(section, "<h3>Parameters that learn</h3>"));
  CHECK(contains(section, ">1e-5</text>"));
  CHECK_FALSE(contains(section, "1e-9"));  // too small for the chart
  const std::string plain = tl::render_html({.runs = {run_with("a", {0.5}), run_with("b", {0.6})}, .judged_run = "a"});
  CHECK(contains(plain, "<h2>What learns when of a</h2>"));
  CHECK_FALSE(contains(plain, "Parameters that learn"));  // they do not change
}

TEST_CASE("The learning-rate finder's curve on a logarithmic axis") {
  std::vector<double> rates, losses;
  for (int i = 0; i < 60; ++i) {
    rates.push_back(1e-6 * std::pow(10, i / 10.0));
    losses.push_back(1 - 0.8 / (1 + std::pow(1e-3 / rates.back(), 2)) + (rates.back() > 0.1 ? rates.back() : 0));
  }
  tl::Report report{.rate_curve = tl::suggest_rate(rates, losses)};
  const std::string page = tl::render_html(report);
  CHECK(first_flaw(page) == "");
  CHECK(contains(page, "<h2>Learning-rate finder</h2>"));
  for (const char* label : {">1e-6<", ">1e-5<", ">1e-4<", ">1e-3<", ">0.01<", ">0.1<"}) CHECK(contains(page, label));
  CHECK(contains(page, "<line class='mark'"));
  const auto json = nlohmann::json::parse(tl::render_json(report))["rate_finder"];
  CHECK(json["suggestion"].get<double>() == doctest::Approx(report.rate_curve->suggestion()));
  CHECK(json["rates"].size() == 60);

  report.rate_curve = tl::suggest_rate({1e-3, 1e-2, 1e-1}, {1, 2, 3});
  const std::string rising = tl::render_html(report);
  CHECK(first_flaw(rising) == "");
  CHECK(contains(rising, "there is no suggestion"));
  CHECK_FALSE(contains(rising, "<line class='mark'"));
  report.rate_curve = tl::suggest_rate({0.5}, {tl::kNoValue});
  CHECK(first_flaw(tl::render_html(report)) == "");
}

TEST_CASE("Calibration: bars where there are samples, and the words about them") {
  std::vector<tl::SampleResult> samples;
  for (int i = 0; i < 10; ++i) samples.push_back({i, 0, i < 7 ? 0 : 1, 0.9});
  for (int i = 0; i < 10; ++i) samples.push_back({i, 0, i < 6 ? 0 : 1, 0.55});
  tl::Report report{.judged_run = "x", .calibration = {{"as <trained>", tl::reliability(samples, 10)}}};
  CHECK(report.calibration[0].second.expected_error == doctest::Approx(0.125));
  CHECK(report.calibration[0].second.largest_error == doctest::Approx(0.2));
  CHECK(std::isnan(report.calibration[0].second.brier));
  const std::string page = tl::render_html(report);
  CHECK(first_flaw(page) == "");
  CHECK(contains(page, "<h3>as &lt;trained&gt;</h3>"));
  CHECK(contains(page, "expected calibration error 12.5\u00A0%; on average 7.5 points too sure"));
  CHECK(count_of(page, "<rect class='told'") == 2);
  CHECK(contains(page, "<title>confidence 90.0\u00A0%, accuracy 70.0\u00A0%, 10 pictures</title>"));
  const auto json = nlohmann::json::parse(tl::render_json(report))["calibration"][0];
  CHECK(json["name"] == "as <trained>");
  CHECK(json["bins"][8]["count"] == 10);
  CHECK(json["bins"][0]["accuracy"].is_null());

  report.calibration.emplace_back("after <scaling>", tl::reliability(samples, 10));
  report.judged_on = "Test & more";
  const std::string two = tl::render_html(report);
  CHECK(first_flaw(two) == "");
  CHECK(contains(two, "<h3>after &lt;scaling&gt;</h3>"));
  CHECK(count_of(two, "<rect class='told'") == 4);
  CHECK(contains(page, "Validation. Bars show"));
  CHECK(contains(two, "Test &amp; more. Bars show"));

  report.calibration = {{"none", tl::reliability(std::span<const tl::SampleResult>())}};
  CHECK_FALSE(contains(tl::render_html(report), "trusted"));
  CHECK_THROWS_AS(tl::reliability(samples, 0), tl::UsageError);
}

TEST_CASE("Maps of features: a dot for each picture, in the colour of its class") {
  tl::FeatureMap before{
      .title = "before", .points = {{0, 0}, {1, 2}, {-3, 1}}, .labels = {0, 1, 1}, .shown = 0.5, .between = 0.25};
  tl::FeatureMap after = before;
  after.title = "after <training>";
  tl::Report report{.classes = {"ant", "<bee>"}, .feature_maps = {before, after}};
  const std::string page = tl::render_html(report);
  CHECK(first_flaw(page) == "");
  CHECK(count_of(page, "<svg class='map' viewBox") == 2);
  CHECK(contains(page, "</svg>&lt;bee&gt;</span>"));
  CHECK(contains(page, "<h3>after &lt;training&gt;</h3>"));
  CHECK(contains(page, "classes explain 25\u00A0% of the variance; the picture shows 50\u00A0%"));
  const auto json = nlohmann::json::parse(tl::render_json(report))["feature_maps"];
  CHECK(json[1]["points"][1] == nlohmann::json{1.0, 2.0, 1});

  for (int32_t c = 2; c < 40; ++c)
    report.feature_maps[0].points.push_back({double(c), -double(c)}), report.feature_maps[0].labels.push_back(c);
  report.feature_maps[1] = {.title = "one place", .points = {{1, 1}, {1, 1}}, .labels = {0, 7}};
  const std::string many = tl::render_html(report);
  CHECK(first_flaw(many) == "");
  CHECK(contains(many, "</svg>24 other classes</span>"));
  CHECK(count_of(many, "<svg class='map key'") == 17);
  for (const char* part : {"nan", "inf"}) CHECK_FALSE(contains(many.substr(many.find("Where pictures lie")), part));
}

TEST_CASE("Hostile names stay text") {
  const std::string evil =
      "<script>alert(1)</script>'\" onload=x &amp; \xff\xc0\x80\xed\xa0\x80\xf4\x90\x80\x80 \x01\u202Egpj.exe";
  const std::string harmless = "&lt;script&gt;alert(1)&lt;/script&gt;&#39;&quot; onload=x &amp;amp; ";
  tl::Report report = sample();
  report.title = report.summary = report.judged_run = evil;
  report.facts = {{evil, evil}};
  report.warnings = {evil};
  for (auto& run : report.runs) run.name = run.note = evil;
  report.classes = {evil, evil, evil};
  for (auto* cards : {&report.mistakes, &report.examples})
    for (auto& card : *cards) card.truth = card.prediction = card.file = evil;
  const std::string page = tl::render_html(report);
  CHECK(first_flaw(page) == "");
  CHECK_FALSE(contains(page, "<script"));
  CHECK(contains(page, "<h1>" + harmless));
  CHECK_FALSE(contains(page, "\u202E"));
  CHECK_FALSE(contains(page, "\xff"));
  CHECK(contains(page, "\uFFFD\uFFFD\uFFFD"));
  CHECK(contains(page, "\uFFFD\uFFFDgpj.exe"));
  CHECK(nlohmann::json::accept(tl::render_json(report)));

  report.mistakes[0].mime = "image/svg+xml";
  CHECK_THROWS_WITH_AS(tl::render_html(report), "report: a picture must be image/jpeg or image/png, got image/svg+xml",
                       tl::UsageError);
}

TEST_CASE("Text of any language is kept, long text is cut at a letter") {
  tl::Report report{.title = "Käfer, 甲虫, жук, 🐞"};
  CHECK(contains(tl::render_html(report), "<h1>Käfer, 甲虫, жук, 🐞</h1>"));
  for (int i = 0; i < 3000; ++i) report.summary += "虫";
  const std::string page = tl::render_html(report);
  CHECK(contains(page, "虫…</p>"));
  CHECK(count_of(page, "虫") == 2002);
}

TEST_CASE("A thousand classes give a list of the most confused pairs") {
  tl::Report report{.runs = {run_with("finetune", {0.5})}};
  tl::ConfusionMatrix matrix(1000);
  for (int64_t c = 0; c < 1000; ++c) matrix.add(c, c, 5), matrix.add(c, (c + 1) % 1000, 1 + (c == 7 ? 9 : 0));
  report.confusion = matrix;
  const std::string page = tl::render_html(report);
  CHECK(first_flaw(page) == "");
  CHECK_FALSE(contains(page, "<table class='matrix'>"));
  CHECK(
      contains(page, "<th scope='row'>class 7</th><td>class 8</td><td class='number'>10</td><td class='number'>66.7"));
  CHECK(contains(page, "<summary>970 more classes</summary>"));
  CHECK(page.size() < 1'000'000);
}

TEST_CASE("The files: page, JSON and a table per run and seed") {
  const auto folder = std::filesystem::temp_directory_path() / tl::text("tl_report_test_", ::getpid());
  std::filesystem::remove_all(folder);
  tl::Report report = sample();
  report.runs.push_back(run_with("../../scratch\n", {0.5}));
  report.runs.push_back(run_with("../../scratch\t", {0.6}));
  report.runs.push_back(run_with("", {0.6}));
  tl::write_report(folder / "deep" / "report", report);

  std::set<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(folder / "deep" / "report"))
    names.insert(entry.path().filename());
  CHECK(names == std::set<std::string>{"------scratch--seed0-2.csv", "------scratch--seed0.csv", "features-seed0.csv",
                                       "features-seed1.csv", "finetune-seed0.csv", "finetune-seed1.csv", "report.html",
                                       "report.json", "run-seed0.csv", "scratch-seed0.csv", "scratch-seed1.csv"});
  const auto read = [&](const std::string& name) {
    std::ostringstream out;
    out << std::ifstream(folder / "deep" / "report" / name).rdbuf();
    return out.str();
  };
  CHECK(read("report.html") == tl::render_html(report));
  CHECK(read("finetune-seed1.csv") == report.runs[1].seeds[1].to_csv());

  const auto json = nlohmann::json::parse(read("report.json"));
  CHECK(json["title"] == "Ants and bees");
  CHECK(json["facts"][0] == nlohmann::json{"Model", "EfficientNet-Lite0"});
  CHECK(json["warnings"].size() == 1);
  CHECK(json["runs"][1]["accuracy"].get<double>() == doctest::Approx(0.92));
  CHECK(json["runs"][1]["seconds"] == 60);
  CHECK(json["validation"]["confusions"] == nlohmann::json{{0, 1, 1}});
  CHECK(json["validation"]["classes"][0]["recall"] == 0.75);
  CHECK(json["validation"]["classes"][2]["recall"].is_null());
  CHECK(json["mistakes"][0]["probability"] == 0.987);
  // A run can be taken out of the report again.
  const auto log = tl::RunLog::from_json(json["runs"][1]["seeds"][1].dump(), "report.json");
  CHECK(log.final_accuracy() == 0.94);

  std::ofstream(folder / "file") << "x";
  CHECK_THROWS_AS(tl::write_report(folder / "file" / "report", report), tl::IoError);
  report.examples[0].mime = "text/html";
  CHECK_THROWS_AS(tl::write_report(folder / "new", report), tl::UsageError);
  CHECK_FALSE(std::filesystem::exists(folder / "new"));
  std::filesystem::remove_all(folder);
}
