// Definitions of report.hpp.
#pragma once
#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>
#include <numeric>
#include <set>
#include <system_error>
#include <utility>

#include "tl/core/error.hpp"
#include "tl/io/file.hpp"
#include "tl/train/log_json.inl"
#include "tl/train/progress.hpp"
#include "tl/train/report.hpp"
#include "tl/train/report_chart.inl"
#include "tl/train/report_html.inl"
#include "tl/train/report_insight.inl"
#include "tl/train/report_style.inl"

namespace tl::inline TL_ABI {
namespace detail {

/// Measures of the seeds of a run, summed up.
template <class Measure>
Spread spread_over(const std::vector<RunLog>& seeds, Measure measure) {
  std::vector<double> values;
  for (const RunLog& log : seeds) values.push_back(measure(log));
  return spread_of(values);
}

/// The run with the best mean accuracy, the first of equals; nullptr when none has one.
inline const RunSummary* best_run(const std::vector<RunSummary>& runs) {
  const RunSummary* best = nullptr;
  for (const RunSummary& run : runs)
    if (better(run.accuracy().mean, best ? best->accuracy().mean : kNoValue)) best = &run;
  return best;
}

inline std::string accuracy_text(const Spread& accuracy) {
  return percent(accuracy.mean) + (std::isnan(accuracy.deviation) ? "" : " ± " + fixed(100 * accuracy.deviation, 1));
}

inline std::string duration_text(const Spread& seconds) {
  return std::isnan(seconds.mean) ? "–" : format_duration(seconds.mean);
}

inline std::string bytes_text(int64_t bytes) { return bytes > 0 ? format_bytes(bytes) : "–"; }

/// "10" or, where seeds differ, "8–10".
inline std::string epochs_text(const RunSummary& run) {
  const Spread epochs =
      spread_over(run.seeds, [](const RunLog& log) { return static_cast<double>(log.epochs.size()); });
  if (epochs.count == 0) return "–";
  return fixed(epochs.low, 0) + (epochs.low < epochs.high ? "–" + fixed(epochs.high, 0) : "");
}

/// The page, section by section; each section is empty when the report has nothing for it.
class ReportPage {
 public:
  explicit ReportPage(const Report& report)
      : report_(report), best_(best_run(report.runs)), drawn_(best_runs(report)) {}

  std::string render() const {
    const std::string title = html(report_.title.empty() ? "Training report" : report_.title);
    return text(
        "<!DOCTYPE html>\n<html lang='en'>\n<head>\n<meta charset='utf-8'/>\n"
        "<meta name='viewport' content='width=device-width, initial-scale=1'/>\n"
        // Whatever slipped through the escaping could still neither run nor fetch anything.
        "<meta http-equiv=\"Content-Security-Policy\" "
        "content=\"default-src 'none'; style-src 'unsafe-inline'; img-src data:\"/>\n"
        "<title>",
        title, "</title>\n<style>", kReportStyle, "</style>\n</head>\n<body>\n<main>\n<header>\n<h1>", title,
        "</h1>\n<p class='lede'>", html(report_.summary.empty() ? headline() : report_.summary), "</p>\n</header>\n",
        tiles(), warnings(), facts(), runs(), curves(), timeline(), rate_finder(), confusion(), per_class(),
        calibration_section(report_.calibration, judged_pictures()), feature_maps(),
        pictures("The worst mistakes", "Wrong, and most certain of it.", report_.mistakes),
        pictures("Predictions", "", report_.examples), "<footer>Written by tl ", TL_VERSION_STRING,
        ". The numbers are in report.json and in one CSV file per run beside this page.</footer>\n"
        "</main>\n</body>\n</html>\n");
  }

 private:
  /// Those that curves are drawn of, in the report's order: as many as there are colours, the most accurate ones.
  static std::vector<const RunSummary*> best_runs(const Report& report) {
    std::vector<const RunSummary*> runs;
    for (const RunSummary& run : report.runs) runs.push_back(&run);
    std::stable_sort(runs.begin(), runs.end(), [](const RunSummary* a, const RunSummary* b) {
      return better(a->accuracy().mean, b->accuracy().mean);
    });
    runs.resize(std::min(runs.size(), kRunColours));
    std::sort(runs.begin(), runs.end());
    return runs;
  }

  /// The class that gives a run its colour; it has none if it is not drawn.
  std::string colour_class(const RunSummary& run) const {
    return text('c', std::find(drawn_.begin(), drawn_.end(), &run) - drawn_.begin());
  }

  std::string class_name(int64_t c) const {
    const auto i = static_cast<size_t>(c);
    return i < report_.classes.size() && !report_.classes[i].empty() ? report_.classes[i] : text("class ", c);
  }

  bool has_several_seeds() const {
    return std::any_of(report_.runs.begin(), report_.runs.end(), [](const auto& run) { return run.seeds.size() > 1; });
  }

  /// " of the run <name>", where a report has several.
  std::string of_judged_run() const {
    return report_.judged_run.empty() || report_.runs.size() < 2 ? "" : " of " + html(report_.judged_run);
  }
  std::string judged_pictures() const { return html(report_.judged_on, 60) + of_judged_run(); }

  /// "84.2 % ± 0.6 validation accuracy with finetune (mean of 3 seeds), 2.1 points above features."
  std::string headline() const {
    constexpr size_t kMostCompared = 4;
    if (!best_) return "";
    const Spread best = best_->accuracy();
    std::string out = accuracy_text(best) + " validation accuracy";
    if (!best_->name.empty()) out += " with " + best_->name;
    if (best.count > 1) out += text(" (mean of ", best.count, " seeds)");
    if (report_.runs.size() > kMostCompared) return text(out, ", the best of ", report_.runs.size(), " runs.");
    std::string others;
    for (const RunSummary& run : report_.runs) {
      const double gap = 100 * (best.mean - run.accuracy().mean);
      if (&run == best_ || std::isnan(gap)) continue;
      others += text(", ", fixed(gap, 1), others.empty() ? " points above " : " above ", run.name);
    }
    return out + others + '.';
  }

  std::string tiles() const {
    const RunSummary* run = best_ ? best_ : report_.runs.size() == 1 ? &report_.runs.front() : nullptr;
    if (!run) return "";
    const std::string whose = report_.runs.size() > 1 ? " · " + html(run->name, 30) : "";
    const auto tile = [&whose](std::string_view label, const std::string& value) {
      return text("<div class='card'><div class='label'>", label, whose, "</div><div class='value'>", value,
                  "</div></div>\n");
    };
    return text("<div class='tiles'>\n", tile("Accuracy", accuracy_text(run->accuracy())),
                tile("Time", duration_text(run->seconds())), tile("Peak memory", bytes_text(run->peak_bytes())),
                tile("Trained parameters", grouped(run->trainable_parameters())), "</div>\n");
  }

  std::string warnings() const {
    if (report_.warnings.empty()) return "";
    std::string items;
    for (const std::string& warning : report_.warnings) items += text("<li>", html(warning), "</li>\n");
    return text("<div class='card warnings' role='note'><h3>Before you trust these numbers</h3>\n<ul>\n", items,
                "</ul></div>\n");
  }

  std::string facts() const {
    if (report_.facts.empty()) return "";
    std::string items;
    for (const auto& [name, value] : report_.facts)
      items += text("<div><dt>", html(name), "</dt><dd>", html(value), "</dd></div>\n");
    return text(heading("What was run"), "<dl class='card facts'>\n", items, "</dl>\n</section>\n");
  }

  std::string runs() const {
    if (report_.runs.empty()) return "";
    std::string rows;
    for (const RunSummary& run : report_.runs) {
      const Spread accuracy = run.accuracy();
      const bool is_best = &run == best_ && report_.runs.size() > 1;
      rows += text("<tr class='", colour_class(run), "'><th scope='row'><span class='dot'></span>", html(run.name, 60),
                   is_best ? "<span class='best'>best</span>" : "",
                   run.note.empty() ? "" : "<span class='small'>" + html(run.note) + "</span>", "</th>",
                   number(accuracy_text(accuracy) + share_bar(accuracy.mean)), number(text(run.seeds.size())),
                   number(epochs_text(run)), number(duration_text(run.seconds())), number(bytes_text(run.peak_bytes())),
                   number(grouped(run.trainable_parameters())), "</tr>\n");
    }
    return text(heading(report_.runs.size() == 1 ? "Result" : "Side by side",
                        has_several_seeds() ? "Mean ± standard deviation over the seeds; times are means." : ""),
                "<div class='card'>",
                table("Runs", {"Run"},
                      {"Validation accuracy", "Seeds", "Epochs", "Time", "Peak memory", "Trained parameters"}, rows),
                "</div>\n</section>\n");
  }

  /// One measure of each epoch: mean and range over the seeds.
  template <class Measure>
  static std::vector<ChartPoint> points_of(const RunSummary& run, Measure measure) {
    std::map<int64_t, std::vector<double>> of_epoch;
    for (const RunLog& log : run.seeds)
      for (const EpochRecord& epoch : log.epochs) of_epoch[epoch.epoch].push_back(measure(epoch));
    std::vector<ChartPoint> points;
    for (const auto& [epoch, values] : of_epoch) {
      const Spread spread = spread_of(values);
      points.push_back({static_cast<double>(epoch), spread.mean, spread.low, spread.high});
    }
    return points;
  }

  Chart measure_chart(const std::string& title, const std::string& note, bool is_share, double EpochRecord::*train,
                      double EpochRecord::*val) const {
    Chart chart{.title = title, .note = note, .percent = is_share};
    for (const bool is_training : {true, false})  // validation is drawn above training
      for (size_t i = 0; i < drawn_.size(); ++i) {
        const auto measure = [&](const EpochRecord& epoch) { return epoch.*(is_training ? train : val); };
        chart.lines.push_back({drawn_[i]->name, text('c', i), is_training, points_of(*drawn_[i], measure)});
      }
    return chart;
  }

  Chart rate_chart() const {
    Chart chart{.title = "Learning rate"};
    bool has_groups = false;
    for (size_t i = 0; i < drawn_.size(); ++i) {
      std::vector<ChartPoint> points;
      if (!drawn_[i]->seeds.empty())  // seeds share their schedule
        for (const EpochRecord& epoch : drawn_[i]->seeds.front().epochs) {
          std::vector<double> rates;
          for (const auto& [group, rate] : epoch.rates) rates.push_back(rate);
          const Spread spread = spread_of(rates);
          has_groups |= spread.low < spread.high;
          points.push_back({static_cast<double>(epoch.epoch), spread.high, spread.low, spread.high});
        }
      chart.lines.push_back({drawn_[i]->name, text('c', i), false, std::move(points)});
    }
    chart.note = has_groups ? "highest of the groups; shade down to the lowest" : "at the end of each epoch";
    return chart;
  }

  std::string curves() const {
    std::string figures;
    for (const Chart& chart :
         {measure_chart("Accuracy", "higher is better", true, &EpochRecord::train_accuracy, &EpochRecord::val_accuracy),
          measure_chart("Loss", "lower is better", false, &EpochRecord::train_loss, &EpochRecord::val_loss),
          rate_chart()})
      figures += chart_figure(chart);
    if (figures.empty()) return "";
    std::string legend;
    if (drawn_.size() > 1)
      for (const RunSummary* run : drawn_)
        legend +=
            text("<span class='", colour_class(*run), "'><span class='dot'></span>", html(run->name, 60), "</span>\n");
    const auto key = [](std::string_view style, std::string_view name) {
      return text("<span><svg viewBox='0 0 30 10' aria-hidden='true'><line class='key", style,
                  "' x1='2' x2='28' y1='5' y2='5'/></svg>", name, "</span>\n");
    };
    return text(
        heading("Curves",
                drawn_.size() < report_.runs.size() ? text("Of the ", drawn_.size(), " most accurate runs.") : ""),
        "<div class='legend'>\n", legend, key("", "validation"), key(" dashed", "training"),
        has_several_seeds() ? "<span class='muted'>Lines are means over seeds, shades their range.</span>\n" : "",
        "</div>\n<div class='charts'>\n", figures, "</div>\n</section>\n");
  }

  /// The run that the page's later sections are about; nullptr when there is none.
  const RunSummary* judged() const {
    for (const RunSummary& run : report_.runs)
      if (run.name == report_.judged_run) return &run;
    return best_ ? best_ : report_.runs.empty() ? nullptr : &report_.runs.front();
  }

  std::string timeline() const {
    const RunSummary* run = judged();
    return run ? timeline_section(*run, report_.runs.size() > 1 ? " of " + html(run->name, 60) : "") : "";
  }

  std::string rate_finder() const { return report_.rate_curve ? rate_finder_section(*report_.rate_curve) : ""; }

  std::string feature_maps() const {
    return feature_map_section(report_.feature_maps, [&](int64_t c) { return class_name(c); });
  }

  std::string confusion() const {
    constexpr int64_t kLargestMatrix = 30, kLargestBesideList = 14;
    if (!report_.confusion || report_.confusion->samples() == 0) return "";
    const ConfusionMatrix& matrix = *report_.confusion;
    const bool is_small = matrix.classes() <= kLargestMatrix;
    const auto pairs = matrix.most_confused(is_small ? 9 : 30);

    std::string rows;
    for (const auto& pair : pairs)
      rows += text("<tr><th scope='row'>", html(class_name(pair.truth), 60), "</th><td>",
                   html(class_name(pair.predicted), 60), "</td>", number(grouped(pair.count)),
                   number(percent(ratio(pair.count, matrix.samples_of(pair.truth)))), "</tr>\n");
    const std::string list = pairs.empty()
                                 ? "<p>Nothing was confused.</p>\n"
                                 : "<h3>Most confused</h3>\n" + table("Most confused classes", {"Truth", "Taken for"},
                                                                      {"Times", "Of truth"}, rows);
    return text(heading("Confusion matrix",
                        text(judged_pictures(), ": ", plural(matrix.samples(), "picture", "pictures"), ", accuracy ",
                             percent(matrix.accuracy()), ", balanced accuracy ", percent(matrix.balanced_accuracy()),
                             ", macro F1 ", percent(matrix.macro_f1()), ".",
                             is_small ? " A row is a true class, a column what it was taken for." : "")),
                is_small ? text("<div class='stack", matrix.classes() <= kLargestBesideList ? " split" : "",
                                "'>\n<div class='card'>", matrix_table(matrix), "</div>\n<div class='card'>", list,
                                "</div>\n</div>\n")
                         : text("<div class='card'>", list, "</div>\n"),
                "</section>\n");
  }

  std::string matrix_table(const ConfusionMatrix& matrix) const {
    constexpr size_t kLongestName = 20;
    // The root of the share makes a few per cent visible, and even the strongest shade leaves text readable.
    const auto shade = [](double share) { return fixed(0.7 * std::sqrt(share), 2); };
    constexpr int64_t kMostWideCells = 20;
    std::string out =
        text("<table class='matrix", matrix.classes() > kMostWideCells ? " dense" : "", "'>\n<thead><tr><td></td>");
    for (int64_t c = 0; c < matrix.classes(); ++c)
      out += text("<th scope='col'><span>", html(class_name(c), kLongestName), "</span></th>");
    out += "</tr></thead>\n<tbody>\n";
    for (int64_t truth = 0; truth < matrix.classes(); ++truth) {
      out += text("<tr><th scope='row'>", html(class_name(truth), kLongestName), "</th>");
      for (int64_t predicted = 0; predicted < matrix.classes(); ++predicted) {
        const int64_t count = matrix.at(truth, predicted);
        const double share = ratio(count, matrix.samples_of(truth));
        const std::string_view style = truth == predicted ? " class='hit'" : "";
        if (count == 0) out += text("<td", style, "></td>");
        else
          out += text("<td", style, " style='--v:", shade(share), "' title='", html(class_name(truth), 60),
                      truth == predicted ? " recognised" : " taken for " + html(class_name(predicted), 60), ": ",
                      percent(share), "'>", count, "</td>");
      }
      out += "</tr>\n";
    }
    return scrolling("Confusion matrix", out + "</tbody>\n</table>\n");
  }

  std::string per_class() const {
    constexpr size_t kShown = 30, kMost = 1000;
    if (!report_.confusion || report_.confusion->samples() == 0) return "";
    const ConfusionMatrix& matrix = *report_.confusion;
    std::vector<int64_t> order(static_cast<size_t>(matrix.classes()));
    std::iota(order.begin(), order.end(), int64_t{0});
    std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) {
      return better(-matrix.f1(a), -matrix.f1(b));  // the worst first, those that never occur last
    });

    const auto rows_of = [&](size_t first, size_t last) {
      std::string rows;
      for (size_t i = first; i < last; ++i) {
        const int64_t c = order[i];
        rows += text("<tr><th scope='row'>", html(class_name(c), 60), "</th>", number(grouped(matrix.samples_of(c))),
                     number(percent(matrix.precision(c))), number(percent(matrix.recall(c))),
                     number(percent(matrix.f1(c)) + share_bar(matrix.f1(c))), "</tr>\n");
      }
      return table("Classes", {"Class"}, {"Pictures", "Precision", "Recall", "F1"}, rows);
    };
    const size_t shown = std::min(order.size(), kShown), listed = std::min(order.size(), kMost);
    std::string out = heading("Class by class",
                              "The worst first. Precision: of the pictures that were called so, the share that is so. "
                              "Recall: of those that are so, the share that was called so. F1: their harmonic mean.") +
                      "<div class='card'>" + rows_of(0, shown);
    if (listed > shown)
      out += text("<details><summary>", plural(static_cast<int64_t>(listed - shown), "more class", "more classes"),
                  listed < order.size() ? "; all are in report.json" : "", "</summary>\n", rows_of(shown, listed),
                  "</details>\n");
    return out + "</div>\n</section>\n";
  }

  static std::string picture(const PictureCard& card) {
    require<UsageError>(card.mime == "image/jpeg" || card.mime == "image/png",
                        "report: a picture must be image/jpeg or image/png, got ", card.mime);
    const bool is_judged = !card.truth.empty(), is_right = is_judged && card.truth == card.prediction;
    const std::string truth = html(card.truth, 60), said = html(card.prediction, 60);
    const std::string alt = is_judged && !is_right ? truth + " taken for " + said : said;
    return text(
        "<figure class='card'><img alt='", alt, "' src='data:", card.mime, ";base64,", base64(card.bytes),
        "'/><figcaption>",
        !is_judged ? ""
        : is_right ? "<span class='right' title='right'>✓</span> "
                   : "<span class='wrong' title='wrong'>✗</span> ",
        "<span class='said'>", said, "</span>",
        std::isfinite(card.probability) ? text(" <span class='muted'>", percent(card.probability, 0), "</span>") : "",
        is_judged && !is_right ? text("<br/><span class='muted'>is ", truth, "</span>") : "",
        card.file.empty() ? "" : text("<span class='file'>", html(card.file, 120), "</span>"),
        "</figcaption></figure>\n");
  }

  std::string pictures(std::string_view title, const std::string& note, const std::vector<PictureCard>& cards) const {
    if (cards.empty()) return "";
    std::string figures;
    for (const PictureCard& card : cards) figures += picture(card);
    return text(heading(text(title, of_judged_run()), note), "<div class='pictures'>\n", figures,
                "</div>\n</section>\n");
  }

  const Report& report_;
  const RunSummary* best_;
  const std::vector<const RunSummary*> drawn_;
};

inline Json json_of(const ConfusionMatrix& matrix, const std::vector<std::string>& classes) {
  Json per_class = Json::array(), confusions = Json::array();
  for (int64_t c = 0; c < matrix.classes(); ++c) {
    const auto i = static_cast<size_t>(c);
    per_class.push_back({{"name", i < classes.size() ? classes[i] : ""},
                         {"samples", matrix.samples_of(c)},
                         {"predicted", matrix.predicted_as(c)},
                         {"precision", matrix.precision(c)},
                         {"recall", matrix.recall(c)},
                         {"f1", matrix.f1(c)}});
  }
  for (const auto& pair : matrix.most_confused(static_cast<size_t>(matrix.samples())))
    confusions.push_back({pair.truth, pair.predicted, pair.count});
  return {{"samples", matrix.samples()},
          {"accuracy", matrix.accuracy()},
          {"balanced_accuracy", matrix.balanced_accuracy()},
          {"macro_f1", matrix.macro_f1()},
          {"classes", std::move(per_class)},
          {"confusions", std::move(confusions)}};
}

inline Json json_of(const Reliability& reliability) {
  Json bins = Json::array();
  for (const ReliabilityBin& bin : reliability.bins)
    bins.push_back({{"low", bin.low},
                    {"high", bin.high},
                    {"count", bin.count},
                    {"confidence", bin.confidence},
                    {"accuracy", bin.accuracy}});
  return {{"expected_error", reliability.expected_error},
          {"largest_error", reliability.largest_error},
          {"negative_log", reliability.negative_log},
          {"brier", reliability.brier},
          {"bins", std::move(bins)}};
}

inline Json json_of(const FeatureMap& map) {
  Json points = Json::array();
  for (size_t i = 0; i < map.points.size(); ++i)
    points.push_back({map.points[i][0], map.points[i][1], i < map.labels.size() ? map.labels[i] : -1});
  return {{"title", map.title}, {"shown", map.shown}, {"between", map.between}, {"points", std::move(points)}};
}

inline Json json_of(const RateCurve& curve) {
  return {{"rates", curve.rates},
          {"losses", curve.losses},
          {"steepest", curve.steepest},
          {"before_minimum", curve.before_minimum},
          {"suggestion", curve.suggestion()}};
}

inline Json json_of(const std::vector<PictureCard>& cards) {
  Json out = Json::array();
  for (const PictureCard& card : cards)
    out.push_back({{"file", card.file},
                   {"truth", card.truth},
                   {"prediction", card.prediction},
                   {"probability", card.probability}});
  return out;
}

/// A name as part of a file name: letters, digits, - and _ of ASCII.
inline std::string file_name_of(std::string_view name) {
  constexpr size_t kLongest = 60;
  std::string out;
  for (const char c : name.substr(0, kLongest)) {
    const bool is_plain =
        (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
    out += is_plain ? c : '-';
  }
  return out.empty() ? "run" : out;
}

}  // namespace detail

TL_INLINE Spread RunSummary::accuracy() const {
  return detail::spread_over(seeds, [](const RunLog& log) { return log.final_accuracy(); });
}

TL_INLINE Spread RunSummary::seconds() const {
  return detail::spread_over(seeds, [](const RunLog& log) { return log.total_seconds(); });
}

TL_INLINE int64_t RunSummary::peak_bytes() const {
  int64_t peak = 0;
  for (const RunLog& log : seeds) peak = std::max(peak, log.peak_bytes());
  return peak;
}

TL_INLINE int64_t RunSummary::trainable_parameters() const {
  return seeds.empty() ? 0 : seeds.front().trainable_parameters();
}

TL_INLINE std::string render_html(const Report& report) { return detail::ReportPage(report).render(); }

TL_INLINE std::string render_json(const Report& report) {
  using detail::Json;
  Json facts = Json::array(), runs = Json::array();
  for (const auto& [name, value] : report.facts) facts.push_back({name, value});
  for (const RunSummary& run : report.runs) {
    Json seeds = Json::array();
    for (const RunLog& log : run.seeds) seeds.push_back(detail::json_of(log));
    runs.push_back({{"name", run.name},
                    {"note", run.note},
                    {"accuracy", run.accuracy().mean},
                    {"accuracy_deviation", run.accuracy().deviation},
                    {"seconds", run.seconds().mean},
                    {"peak_bytes", run.peak_bytes()},
                    {"trainable_parameters", run.trainable_parameters()},
                    {"seeds", std::move(seeds)}});
  }
  Json out{{"title", report.title},       {"summary", report.summary}, {"facts", std::move(facts)},
                  {"warnings", report.warnings}, {"runs", std::move(runs)},   {"judged_run", report.judged_run}};
  if (report.confusion) out["validation"] = detail::json_of(*report.confusion, report.classes);
  if (report.rate_curve) out["rate_finder"] = detail::json_of(*report.rate_curve);
  for (const auto& [name, reliability] : report.calibration) {
    out["calibration"].push_back(detail::json_of(reliability));
    out["calibration"].back()["name"] = name;
  }
  for (const FeatureMap& map : report.feature_maps) out["feature_maps"].push_back(detail::json_of(map));
  out["mistakes"] = detail::json_of(report.mistakes);
  out["examples"] = detail::json_of(report.examples);
  return detail::dump(out);
}

TL_INLINE std::string render_text(const std::vector<RunSummary>& runs) {
  if (runs.empty()) return "";
  std::vector<std::vector<std::string>> rows{{"run", "accuracy", "seeds", "epochs", "time", "peak memory", "trained"}};
  for (const RunSummary& run : runs)
    rows.push_back({run.name, detail::accuracy_text(run.accuracy()), text(run.seeds.size()), detail::epochs_text(run),
                    detail::duration_text(run.seconds()), detail::bytes_text(run.peak_bytes()),
                    detail::grouped(run.trainable_parameters())});
  std::vector<size_t> widths(rows.front().size());
  for (const auto& row : rows)
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], detail::count_letters(row[i]));
  std::string out;
  for (const auto& row : rows) {
    for (size_t i = 0; i < row.size(); ++i) {
      const std::string space(widths[i] - detail::count_letters(row[i]), ' ');
      out += (i == 0 ? "" : "  ") + (i == 0 ? row[i] + space : space + row[i]);
    }
    out += '\n';
  }
  return out;
}

TL_INLINE void write_report(const std::string& folder, const Report& report) {
  const std::string page = render_html(report);
  const std::filesystem::path root(folder);
  std::error_code error;
  std::filesystem::create_directories(root, error);
  require<IoError>(!error, "cannot make the folder ", folder, ": ", error.message());

  const auto write = [&root](const std::string& name, const std::string& content) {
    write_atomically((root / name).string(), [&](FileWriter& out) { out.write(content); });
  };
  std::set<std::string> taken;
  for (const RunSummary& run : report.runs)
    for (const RunLog& log : run.seeds) {
      const std::string base = text(detail::file_name_of(run.name), "-seed", log.seed);
      std::string name = base;
      for (int copy = 2; !taken.insert(name).second; ++copy) name = text(base, '-', copy);
      write(name + ".csv", log.to_csv());
    }
  write("report.json", render_json(report));
  write("report.html", page);
}

}  // namespace tl::inline TL_ABI
