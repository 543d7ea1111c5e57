// Part of report.inl: the sections that look into a run: what learnt when, the rate to begin with, whether confidence
// is to be trusted, and how features lie.
#pragma once
#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "tl/train/calibration.hpp"
#include "tl/train/feature_map.hpp"
#include "tl/train/rate_finder.hpp"
#include "tl/train/report.hpp"
#include "tl/train/report_chart.inl"
#include "tl/train/report_html.inl"

namespace tl::inline TL_ABI::detail {

inline std::string chart_figure(const Chart& chart) {
  ChartPainter painter(chart);
  if (painter.is_empty()) return "";
  return text("<figure class='card'><figcaption><h3>", chart.title, "</h3><span class='muted small'>", chart.note,
              "</span></figcaption>\n", painter.paint(), "</figure>\n");
}

/// The rates of one group of parameters, an epoch each; kNoValue where the group was frozen.
struct GroupTimeline {
  std::string name;
  std::vector<ChartPoint> points;

  double highest() const {
    double out = kNoValue;
    for (const ChartPoint& p : points)
      if (better(p.y, out)) out = p.y;
    return out;
  }
};

/// Groups in the order in which they appear. The half of a group that without_decay_on_vectors splits off is left out
/// where it has nothing of its own to say.
inline std::vector<GroupTimeline> group_timelines(const RunLog& log) {
  constexpr std::string_view kSplitOff = " (vectors)";
  std::vector<GroupTimeline> all, out;
  for (const EpochRecord& epoch : log.epochs)
    for (const auto& entry : epoch.rates) {
      auto found = std::find_if(all.begin(), all.end(), [&](const auto& group) { return group.name == entry.first; });
      if (found == all.end()) found = all.insert(all.end(), {entry.first, {}});
      found->points.push_back({static_cast<double>(epoch.epoch), entry.second, entry.second, entry.second});
    }
  for (const GroupTimeline& group : all) {
    const auto whole = std::find_if(
        all.begin(), all.end(), [&](const auto& other) { return group.name == other.name + std::string(kSplitOff); });
    const bool is_told =
        whole != all.end() && std::equal(group.points.begin(), group.points.end(), whole->points.begin(),
                                         whole->points.end(), [](const ChartPoint& part, const ChartPoint& own) {
                                           return part.x == own.x && (std::isnan(part.y) || part.y == own.y);
                                         });
    if (!is_told) out.push_back(group);
  }
  return out;
}

inline std::string rate_text(double rate) {
  if (!std::isfinite(rate)) return "–";
  return rate == 0 ? "0" : scientific(rate, 2);
}

/// Colours of groups shade from the first to the last, --g0 to --g11.
inline std::string group_colour(size_t group, size_t groups) {
  constexpr size_t kShades = 12;
  return text('g', groups <= 1 ? 0 : group * (kShades - 1) / (groups - 1));
}

/// Spans of epochs in which a group learns, as bars and as text: "3–10".
struct LearningSpans {
  std::string bars, words;

  LearningSpans(const GroupTimeline& group, double first, double last) {
    const auto learns = [](const ChartPoint& p) { return !std::isnan(p.y); };
    for (auto begin = group.points.begin(); begin != group.points.end();) {
      begin = std::find_if(begin, group.points.end(), learns);
      if (begin == group.points.end()) break;
      const auto end = std::find_if_not(begin, group.points.end(), learns);
      const double from = begin->x, to = (end - 1)->x, epochs = last - first + 1;
      bars += text("<i style='left:", fixed(100 * (from - first) / epochs, 1),
                   "%;width:", fixed(100 * (to - from + 1) / epochs, 1), "%'></i>");
      words += text(words.empty() ? "" : ", ", fixed(from, 0), from < to ? "–" + fixed(to, 0) : "");
      begin = end;
    }
    if (words.empty()) words = "never";
  }
};

/// Which groups of parameters learnt when, and how fast; nothing for a run whose parameters are one group.
inline std::string timeline_section(const RunSummary& run, const std::string& whose) {
  constexpr double kLeastShown = 1e-4;  // of the highest rate
  if (run.seeds.empty()) return "";
  const RunLog& log = run.seeds.front();  // seeds share their schedule
  const auto groups = group_timelines(log);
  if (groups.size() < 2) return "";
  double highest = kNoValue;
  for (const auto& group : groups)
    if (better(group.highest(), highest)) highest = group.highest();

  const auto first = static_cast<double>(log.epochs.front().epoch), last = static_cast<double>(log.epochs.back().epoch);
  Chart rates{.title = "Rate of each group",
              .note = "logarithmic, down to 1/10,000 of the highest",
              .log_y = true,
              .named = false};
  std::string rows;
  for (size_t i = 0; i < groups.size(); ++i) {
    const std::string colour = group_colour(i, groups.size());
    const LearningSpans spans(groups[i], first, last);
    rows += text("<tr class='", colour, "'><th scope='row'><span class='dot'></span>", html(groups[i].name, 60),
                 "</th><td><span class='track' aria-hidden='true'>", spans.bars, "</span></td>", number(spans.words),
                 number(rate_text(groups[i].highest())), "</tr>\n");
    ChartLine line{groups[i].name, colour, false, groups[i].points};
    for (ChartPoint& p : line.points)
      if (!(p.y >= highest * kLeastShown)) p.y = kNoValue;
    rates.lines.push_back(std::move(line));
  }
  std::reverse(rates.lines.begin(), rates.lines.end());  // the first, usually the head, is drawn above the others

  Chart learning{.title = "Parameters that learn", .note = "in millions", .named = false};
  ChartLine line{"millions of parameters", "g0", false, {}};
  for (const EpochRecord& epoch : log.epochs) {
    const double millions = static_cast<double>(epoch.trainable_parameters) / 1e6;
    line.points.push_back({static_cast<double>(epoch.epoch), millions, millions, millions});
  }
  const bool changes = std::any_of(line.points.begin(), line.points.end(),
                                   [&](const ChartPoint& p) { return p.y != line.points.front().y; });
  learning.lines.push_back(std::move(line));
  return text(heading("What learns when" + whose,
                      "Groups of parameters as the optimizer has them. A bar spans the epochs in which a group learns; "
                      "elsewhere it is frozen."),
              "<div class='card'>",
              table("Groups of parameters", {"Group", text("Epochs ", fixed(first, 0), " to ", fixed(last, 0))},
                    {"Learns in", "Highest rate"}, rows),
              "</div>\n<div class='charts below'>\n", chart_figure(rates), changes ? chart_figure(learning) : "",
              "</div>\n</section>\n");
}

inline std::string rate_finder_section(const RateCurve& curve) {
  if (curve.rates.empty()) return "";
  Chart chart{.title = "Loss while the rate rises",
              .note = "smoothed; the dashed line is the suggestion",
              .percent = false,
              .lines = {{"loss", "c0", false, {}}},
              .x_name = "rate",
              .log_x = true,
              .mark = curve.suggestion()};
  for (size_t i = 0; i < curve.rates.size(); ++i)
    chart.lines[0].points.push_back({curve.rates[i], curve.losses[i], curve.losses[i], curve.losses[i]});
  const auto fact = [](std::string_view name, double rate) {
    return text("<div><dt>", name, "</dt><dd>", rate_text(rate), "</dd></div>\n");
  };
  return text(
      heading("Learning-rate finder",
              std::isfinite(curve.suggestion())
                  ? "A rate to begin with lies between that at which the loss falls fastest and a tenth of that "
                    "at which it is lowest."
                  : "The loss never fell: there is no suggestion."),
      "<div class='charts'>\n", chart_figure(chart), "<dl class='card facts tall'>\n",
      fact("Suggestion", curve.suggestion()), fact("Loss falls fastest at", curve.steepest),
      fact("A tenth of the rate at the lowest loss", curve.before_minimum), "</dl>\n</div>\n</section>\n");
}

/// Accuracy over confidence, and below it how many samples have each confidence.
inline std::string paint_reliability(const Reliability& reliability, const std::string& label) {
  constexpr double kWidth = 380, kHeight = 330, kLeft = 46, kRight = 370, kTop = 10, kBottom = 230, kCountTop = 246,
                   kCountBottom = 296;
  const auto x_of = [&](double share) { return fixed(kLeft + share * (kRight - kLeft), 1); };
  const auto y_of = [&](double share) { return fixed(kBottom - share * (kBottom - kTop), 1); };
  const auto rect = [](const std::string& style, double x, double y, double width, double height,
                       const std::string& title) {
    return text("<rect class='", style, "' x='", fixed(x, 1), "' y='", fixed(y, 1), "' width='",
                fixed(std::max(width, 0.0), 1), "' height='", fixed(std::max(height, 0.0), 1), "'><title>", title,
                "</title></rect>");
  };
  std::string out = text("<svg viewBox='0 0 ", kWidth, ' ', kHeight, "' role='img' aria-label='", label, "'>\n");
  for (const double share : {0.0, 0.25, 0.5, 0.75, 1.0})
    out += text("<line class='grid' x1='", kLeft, "' x2='", kRight, "' y1='", y_of(share), "' y2='", y_of(share),
                "'/><text class='tick' text-anchor='end' x='", kLeft - 6, "' y='", y_of(share), "' dy='.35em'>",
                fixed(100 * share, 0), "%</text><text class='tick' text-anchor='middle' x='", x_of(share), "' y='",
                kCountBottom + 15, "'>", fixed(100 * share, 0), "%</text>\n");
  int64_t most = 0;
  for (const ReliabilityBin& bin : reliability.bins) most = std::max(most, bin.count);
  for (const ReliabilityBin& bin : reliability.bins) {
    if (bin.count == 0) continue;
    const double left = kLeft + bin.low * (kRight - kLeft) + 1, width = (bin.high - bin.low) * (kRight - kLeft) - 2;
    const double height = kBottom - kTop, low = std::min(bin.accuracy, bin.confidence);
    const std::string title = text("confidence ", percent(bin.confidence), ", accuracy ", percent(bin.accuracy), ", ",
                                   plural(bin.count, "picture", "pictures"));
    out += rect("told", left, kBottom - bin.accuracy * height, width, bin.accuracy * height, title);
    out += rect("gap", left, kBottom - (low + std::abs(bin.accuracy - bin.confidence)) * height, width,
                std::abs(bin.accuracy - bin.confidence) * height, title);
    const double share = static_cast<double>(bin.count) / static_cast<double>(most);
    out += rect("count", left, kCountBottom - share * (kCountBottom - kCountTop), width,
                share * (kCountBottom - kCountTop), title);
    out += '\n';
  }
  return out + text("<line class='mark' x1='", x_of(0), "' y1='", y_of(0), "' x2='", x_of(1), "' y2='", y_of(1),
                    "'/>\n<text class='tick' text-anchor='middle' x='", (kLeft + kRight) / 2, "' y='", kHeight - 4,
                    "'>confidence; below: how many pictures have it</text>\n</svg>\n");
}

/// `judged`: which pictures, and by which run; escaped.
inline std::string calibration_section(const std::vector<std::pair<std::string, Reliability>>& all,
                                       const std::string& judged) {
  std::string figures;
  for (const auto& [name, reliability] : all) {
    Mean confidence, accuracy;
    for (const ReliabilityBin& bin : reliability.bins) {
      confidence.add(bin.count > 0 ? bin.confidence : 0, static_cast<double>(bin.count));
      accuracy.add(bin.count > 0 ? bin.accuracy : 0, static_cast<double>(bin.count));
    }
    if (confidence.weight() == 0) continue;
    const double excess = 100 * (confidence.value() - accuracy.value());
    const std::string words = text("expected calibration error ", percent(reliability.expected_error), "; on average ",
                                   fixed(std::abs(excess), 1), " points too ", excess > 0 ? "sure" : "modest");
    figures += text("<figure class='card'><figcaption><h3>", html(name.empty() ? "Confidence" : name, 60),
                    "</h3><span class='muted small'>", words, "</span></figcaption>\n",
                    paint_reliability(reliability, "Accuracy over confidence: " + words), "</figure>\n");
  }
  if (figures.empty()) return "";
  return text(heading("Is its confidence to be trusted?",
                      text(judged,
                           ". Bars show how often the network is right when it is so sure; they reach the dashed line "
                           "where confidence and accuracy agree. The gap to it is shaded.")),
              "<div class='charts'>\n", figures, "</div>\n</section>\n");
}

/// Maps side by side, with a dot for each sample in its class' colour.
template <class ClassName>
std::string feature_map_section(const std::vector<FeatureMap>& maps, ClassName class_name) {
  std::map<int32_t, int64_t> counts;  // in all maps
  for (const FeatureMap& map : maps)
    for (const int32_t label : map.labels) ++counts[label];
  std::vector<std::pair<int32_t, int64_t>> classes(counts.begin(), counts.end());
  if (classes.empty()) return "";
  if (classes.size() > kDotKinds) {  // the largest have a look of their own
    std::stable_sort(classes.begin(), classes.end(), [](const auto& a, const auto& b) { return a.second > b.second; });
    std::sort(classes.begin(), classes.begin() + kDotKinds);
  }
  std::map<int32_t, size_t> kinds;
  std::string legend;
  for (size_t i = 0; i < classes.size(); ++i) {
    kinds[classes[i].first] = std::min(i, kDotKinds);
    if (i > kDotKinds) continue;
    legend += text("<span><svg class='map key' viewBox='0 0 10 10' aria-hidden='true'><path class='", dot_colour(i),
                   "' d='", dot_path(i, 5, 5), "'/></svg>",
                   i < kDotKinds ? html(class_name(classes[i].first), 60)
                                 : plural(static_cast<int64_t>(classes.size() - i), "other class", "other classes"),
                   "</span>\n");
  }
  std::string figures;
  for (const FeatureMap& map : maps) {
    if (map.points.empty() || map.labels.size() != map.points.size()) continue;
    std::vector<size_t> looks;
    for (const int32_t label : map.labels) looks.push_back(kinds[label]);
    const std::string words = text("classes explain ", percent(map.between, 0), " of the variance; the picture shows ",
                                   percent(map.shown, 0));
    figures += text("<figure class='card'><figcaption><h3>", html(map.title.empty() ? "Features" : map.title, 60),
                    "</h3><span class='muted small'>", words, "</span></figcaption>\n",
                    paint_map(map.points, looks, html(map.title, 60) + ": " + words), "</figure>\n");
  }
  if (figures.empty()) return "";
  return text(heading("Where pictures lie for the network",
                      "A dot is a validation picture; its place is what the head gets to see of it, along the two "
                      "directions of most variance (principal components), for each map its own."),
              "<div class='legend'>\n", legend, "</div>\n<div class='charts pair'>\n", figures, "</div>\n</section>\n");
}

}  // namespace tl::inline TL_ABI::detail
