// Part of report.inl: curves, maps of points and reliability diagrams as SVG.
#pragma once
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <iterator>
#include <string>
#include <utility>
#include <vector>

#include "tl/core/text.hpp"
#include "tl/train/metrics.hpp"
#include "tl/train/report_html.inl"
#include "tl/train/report_style.inl"

namespace tl::inline TL_ABI::detail {

struct ChartPoint {
  double x, y, low, high;  // low and high are the edges of the shade
};

struct ChartLine {
  std::string name;
  std::string colour;  // its class; lines of one colour belong together
  bool dashed;
  std::vector<ChartPoint> points;
};

struct Chart {
  std::string title = {}, note = {};
  bool percent = false;  // y
  std::vector<ChartLine> lines = {};
  std::string x_name = "epoch";
  bool log_x = false, log_y = false;
  bool named = true;       // the lines' names stand beside their ends
  double mark = kNoValue;  // an x to point out
};

inline int exponent_of(double value) { return static_cast<int>(std::floor(std::log10(std::abs(value)) + 1e-9)); }

/// 0.00125 as 1.25e-3.
inline std::string scientific(double value, int decimals) {
  const int exponent = exponent_of(value);
  return text(fixed(value / std::pow(10.0, exponent), decimals), 'e', exponent);
}

/// Ticks at 1, 2 or 5 times a power of ten, about `wanted` of them, that enclose [low, high].
struct Ticks {
  double first, step;
  int count;

  Ticks(double low, double high, int wanted, double smallest_step = 0) {
    const double raw = (high - low) / wanted;
    const double power = std::pow(10.0, std::floor(std::log10(raw)));
    step = power * 10;
    for (const double factor : {5.0, 2.0, 1.0})
      if (raw <= factor * power * (1 + 1e-9)) step = factor * power;
    step = std::max(step, smallest_step);
    first = std::floor(low / step + 1e-9) * step;
    count = static_cast<int>(std::ceil((high - first) / step - 1e-9)) + 1;
  }
  double at(int i) const { return first + i * step; }
  double last() const { return at(count - 1); }

  std::string label(int i, bool percent) const {
    constexpr int kMostDecimals = 4;
    const double value = at(i), largest = std::max(std::abs(first), std::abs(last()));
    if (percent) return fixed(100 * value, step < 0.00999 ? 1 : 0) + "%";
    if (std::abs(value) < step / 2) return "0";
    const int place = static_cast<int>(std::floor(std::log10(step) + 1e-9));  // of the digit that tells ticks apart
    if (place >= -kMostDecimals && largest < 1e5) return fixed(value, std::max(0, -place));
    const int exponent = exponent_of(value);
    return scientific(value, std::max(0, exponent - place));
  }
};

/// Powers of ten, and 2 and 5 times those where there are few, that enclose [low, high]; of many powers some.
inline std::vector<double> log_ticks(double low, double high) {
  constexpr int kFewPowers = 2, kMostTicks = 8;
  const int first = exponent_of(low), last = exponent_of(high) + 1, step = (last - first) / kMostTicks + 1;
  std::vector<double> out;
  for (int power = first; power < last + step; power += step)
    for (const double factor : {1.0, 2.0, 5.0})
      if (factor == 1 || last - first <= kFewPowers) out.push_back(factor * std::pow(10.0, power));
  const auto above = [](double bound) { return [bound](double tick) { return tick > bound * (1 + 1e-9); }; };
  const auto begin = std::find_if(out.begin(), out.end(), above(low)) - 1;
  const auto end = std::find_if(begin + 1, out.end(), above(high * (1 - 2e-9)));
  return {begin, std::min(end + 1, out.end())};
}

inline std::string log_label(double value) {
  return value >= 0.999e-2 && value < 1e4 ? text(value) : scientific(value, 0);
}

/// Numbers that can be drawn: beyond 1e30 ranges would overflow.
inline bool is_drawable(double value) { return std::abs(value) < 1e30; }

class ChartPainter {
 public:
  explicit ChartPainter(const Chart& chart) : chart_(chart) {
    for (const ChartLine& line : chart.lines) {
      widest_name_ = std::max(widest_name_, std::min(count_letters(line.name), kLongestName));
      for (const ChartPoint& p : line.points) {
        if (!is_drawn(p)) continue;
        include(p.x, x_low_, x_high_);
        for (const double y : {p.y, p.low, p.high})
          if (is_drawn_y(y)) include(y, y_low_, y_high_);
      }
    }
    has_names_ = chart.named && std::any_of(chart.lines.begin(), chart.lines.end(), [&](const ChartLine& line) {
                   return line.colour != chart.lines.front().colour;
                 });
    right_ = kWidth - 10 - (has_names_ ? 4 + 7.0 * static_cast<double>(widest_name_) : 0);
  }

  bool is_empty() const { return std::isnan(x_low_); }

  std::string paint() {
    const auto y_labels = settle_y();
    const auto x_labels = settle_x();
    std::string out = text("<svg viewBox='0 0 ", kWidth, ' ', kHeight, "' role='img' aria-label='", html(chart_.title),
                           ": ", html(description()), "'>\n");
    for (const auto& [at, label] : y_labels) {
      const std::string y = coordinate(y_of(at));
      out += text("<line class='grid' x1='", kLeft, "' x2='", coordinate(right_), "' y1='", y, "' y2='", y,
                  "'/><text class='tick' text-anchor='end' x='", kLeft - 6, "' y='", y, "' dy='.35em'>", label,
                  "</text>\n");
    }
    for (const auto& [at, label] : x_labels)
      out += text("<text class='tick' text-anchor='middle' x='", coordinate(x_of(at)), "' y='", kBottom + 16, "'>",
                  label, "</text>\n");
    out += text("<text class='tick' text-anchor='middle' x='", coordinate((kLeft + right_) / 2), "' y='", kHeight - 4,
                "'>", html(chart_.x_name), "</text>\n");
    if (chart_.mark >= x_low_ && chart_.mark <= x_high_) {
      const std::string x = coordinate(x_of(chart_.mark));
      out += text("<line class='mark' x1='", x, "' x2='", x, "' y1='", kTop, "' y2='", kBottom, "'/>\n");
    }
    for (const ChartLine& line : chart_.lines) paint_line(line, out);
    paint_names(out);
    return out + "</svg>\n";
  }

 private:
  static constexpr double kWidth = 380, kHeight = 250, kLeft = 46, kTop = 10, kBottom = 210, kNameHeight = 14;
  static constexpr size_t kLongestName = 12;
  using Labels = std::vector<std::pair<double, std::string>>;

  static void include(double value, double& low, double& high) {
    low = std::isnan(low) ? value : std::min(low, value);
    high = std::isnan(high) ? value : std::max(high, value);
  }
  static std::string coordinate(double value) { return fixed(value, 1); }
  static double share(double value, double low, double high, bool is_log) {
    return is_log ? std::log(value / low) / std::log(high / low) : (value - low) / (high - low);
  }
  double x_of(double x) const { return kLeft + share(x, x_low_, x_high_, chart_.log_x) * (right_ - kLeft); }
  double y_of(double y) const { return kBottom - share(y, y_low_, y_high_, chart_.log_y) * (kBottom - kTop); }

  bool is_drawn_y(double y) const { return is_drawable(y) && (!chart_.log_y || y > 0); }
  bool is_drawn(const ChartPoint& p) const { return is_drawn_y(p.y) && (!chart_.log_x || p.x > 0); }

  /// The points that can be drawn, and of many no more than a line this wide can show.
  std::vector<ChartPoint> drawn_points(const ChartLine& line) const {
    constexpr size_t kMost = 300;
    std::vector<ChartPoint> all, out;
    std::copy_if(line.points.begin(), line.points.end(), std::back_inserter(all),
                 [&](const ChartPoint& p) { return is_drawn(p); });
    if (all.size() <= kMost) return all;
    for (size_t i = 0; i < kMost; ++i) out.push_back(all[i * (all.size() - 1) / (kMost - 1)]);
    return out;
  }

  /// Moves the ends of the y axis to ticks.
  Labels settle_y() {
    Labels labels;
    if (chart_.log_y) {
      for (const double tick : log_ticks(y_low_, y_high_)) labels.emplace_back(tick, log_label(tick));
    } else {
      const double range = y_high_ - y_low_, size = std::max(std::abs(y_low_), std::abs(y_high_));
      double pad = range > 0 ? std::max(range * 0.04, size * 1e-3) : size > 0 ? size * 0.5 : 0.5;
      if (chart_.percent) pad = std::clamp(pad, 0.005, 0.05);
      y_low_ = chart_.percent || y_low_ >= 0 ? std::max(y_low_ - pad, 0.0) : y_low_ - pad;
      y_high_ = chart_.percent ? std::max(std::min(y_high_ + pad, 1.0), y_low_ + pad) : y_high_ + pad;
      const Ticks ticks(y_low_, y_high_, 4);
      for (int i = 0; i < ticks.count; ++i) labels.emplace_back(ticks.at(i), ticks.label(i, chart_.percent));
    }
    y_low_ = labels.front().first, y_high_ = labels.back().first;
    return labels;
  }

  Labels settle_x() {
    Labels labels;
    if (x_low_ == x_high_) {
      chart_.log_x ? (x_low_ /= 2, x_high_ *= 2) : (x_low_ -= 0.5, x_high_ += 0.5);
    }
    const auto add = [&](double tick, const std::string& label) {
      if (tick >= x_low_ * (1 - 1e-9) && tick <= x_high_ * (1 + 1e-9)) labels.emplace_back(tick, label);
    };
    if (chart_.log_x) {
      for (const double tick : log_ticks(x_low_, x_high_)) add(tick, log_label(tick));
    } else {
      const Ticks ticks(x_low_, x_high_, 6, 1);
      for (int i = 0; i < ticks.count; ++i) add(ticks.at(i), fixed(ticks.at(i), 0));
    }
    return labels;
  }

  std::string value_text(double value) const { return chart_.percent ? detail::percent(value) : text(value); }
  std::string place_text(double x) const { return text(chart_.x_name, ' ', x); }

  const ChartPoint* last_drawn(const ChartLine& line) const {
    const ChartPoint* last = nullptr;
    for (const ChartPoint& p : line.points)
      if (is_drawn(p)) last = &p;
    return last;
  }

  std::string description() const {
    std::string out;
    for (const ChartLine& line : chart_.lines)
      if (const ChartPoint* last = last_drawn(line))
        out += text(out.empty() ? "" : "; ", line.name, line.dashed ? " in training" : "", ' ', value_text(last->y),
                    " at ", place_text(last->x));
    return out;
  }

  void paint_line(const ChartLine& line, std::string& out) const {
    constexpr size_t kMostDots = 30;
    const std::vector<ChartPoint> points = drawn_points(line);
    if (points.empty()) return;
    out += text("<g class='", line.colour, line.dashed ? " dashed" : "", "'>");
    if (!line.dashed) paint_shade(points, out);
    out += "<polyline points='";
    for (const ChartPoint& p : points) out += text(coordinate(x_of(p.x)), ',', coordinate(y_of(p.y)), ' ');
    out += "'/>";
    const bool has_room = points.size() <= kMostDots && (chart_.named || chart_.lines.size() <= kRunColours);
    if (points.size() == 1 || (has_room && !line.dashed))
      for (const ChartPoint& p : points)
        out += text("<circle cx='", coordinate(x_of(p.x)), "' cy='", coordinate(y_of(p.y)), "' r='2.4'><title>",
                    html(line.name), ", ", html(place_text(p.x)), ": ", value_text(p.y), "</title></circle>");
    out += "</g>\n";
  }

  void paint_shade(const std::vector<ChartPoint>& points, std::string& out) const {
    const auto is_flat = [&](const ChartPoint& p) {
      return !(p.low < p.high && is_drawn_y(p.low) && is_drawn_y(p.high));
    };
    if (points.size() < 2 || std::all_of(points.begin(), points.end(), is_flat)) return;
    const auto add = [&](const ChartPoint& p, double y) {
      out += text(coordinate(x_of(p.x)), ',', coordinate(y_of(is_drawn_y(y) ? y : p.y)), ' ');
    };
    out += "<polygon points='";
    for (auto p = points.begin(); p != points.end(); ++p) add(*p, p->high);
    for (auto p = points.rbegin(); p != points.rend(); ++p) add(*p, p->low);
    out += "'/>";
  }

  /// The name of each colour beside the end of its line, moved apart where two would overlap.
  void paint_names(std::string& out) const {
    if (!has_names_) return;
    struct Name {
      const ChartLine* line;
      double y;
    };
    std::vector<Name> names;
    for (auto line = chart_.lines.rbegin(); line != chart_.lines.rend(); ++line) {  // validation comes last, and before
      const ChartPoint* last = last_drawn(*line);
      const bool is_named =
          std::any_of(names.begin(), names.end(), [&](const Name& n) { return n.line->colour == line->colour; });
      if (last && !is_named) names.push_back({&*line, y_of(last->y)});
    }
    const auto count = static_cast<double>(names.size());
    if (names.size() < 2 || count * kNameHeight > kBottom - kTop + kNameHeight) return;
    std::stable_sort(names.begin(), names.end(), [](const Name& a, const Name& b) { return a.y < b.y; });
    for (size_t i = 1; i < names.size(); ++i) names[i].y = std::max(names[i].y, names[i - 1].y + kNameHeight);
    double lowest = kBottom;
    for (auto name = names.rbegin(); name != names.rend(); ++name, lowest -= kNameHeight)
      name->y = std::min(name->y, lowest);
    for (const Name& name : names)
      out += text("<text class='name ", name.line->colour, "' x='", coordinate(right_ + 7), "' y='", coordinate(name.y),
                  "' dy='.35em'>", html(name.line->name, kLongestName - 1), "</text>\n");
  }

  const Chart& chart_;
  size_t widest_name_ = 0;
  bool has_names_ = false;
  double right_;
  double x_low_ = kNoValue, x_high_ = kNoValue, y_low_ = kNoValue, y_high_ = kNoValue;
};

/// How many kinds of dots tell classes apart: eight colours, and four shapes where colours come again.
inline constexpr size_t kDotKinds = 16;

/// A dot around (x, y) as a part of a path.
inline std::string dot_path(size_t kind, double x, double y) {
  constexpr std::array<std::string_view, 4> kShapes = {"m-3 0a3 3 0 1 0 6 0a3 3 0 1 0-6 0", "m-2.7-2.7h5.4v5.4h-5.4z",
                                                       "m0-3.6l3.5 6.2h-7z", "m0-3.7l3.7 3.7l-3.7 3.7l-3.7-3.7z"};
  return text('M', fixed(x, 1), ' ', fixed(y, 1), kShapes[(kind % kRunColours + kind / kRunColours) % kShapes.size()]);
}

/// The class of a dot's colour.
inline std::string dot_colour(size_t kind) { return text('c', kind < kDotKinds ? kind % kRunColours : kRunColours); }

/// Dots at [x, y], both axes with one scale; `kinds` says what each looks like.
inline std::string paint_map(const std::vector<std::array<double, 2>>& points, const std::vector<size_t>& kinds,
                             const std::string& label) {
  constexpr double kWidth = 380, kHeight = 290, kMargin = 8;
  std::array<double, 2> low{}, high{};
  for (size_t i = 0; i < points.size(); ++i)
    for (size_t axis = 0; axis < 2; ++axis) {
      low[axis] = i == 0 ? points[i][axis] : std::min(low[axis], points[i][axis]);
      high[axis] = i == 0 ? points[i][axis] : std::max(high[axis], points[i][axis]);
    }
  const double x_range = high[0] - low[0], y_range = high[1] - low[1];
  const double scale = std::min(x_range > 0 ? (kWidth - 2 * kMargin) / x_range : 1e30,
                                y_range > 0 ? (kHeight - 2 * kMargin) / y_range : 1e30);
  const auto place = [&](double value, size_t axis) { return (value - (low[axis] + high[axis]) / 2) * scale; };
  std::array<std::string, kDotKinds + 1> paths;
  for (size_t i = 0; i < points.size(); ++i)
    paths[std::min(kinds[i], kDotKinds)] +=
        dot_path(kinds[i], kWidth / 2 + place(points[i][0], 0), kHeight / 2 - place(points[i][1], 1));
  std::string out =
      text("<svg class='map' viewBox='0 0 ", kWidth, ' ', kHeight, "' role='img' aria-label='", label, "'>\n");
  for (size_t kind = paths.size(); kind-- > 0;)  // what has no kind of its own lies below
    if (!paths[kind].empty()) out += text("<path class='", dot_colour(kind), "' d='", paths[kind], "'/>\n");
  return out + "</svg>\n";
}

}  // namespace tl::inline TL_ABI::detail
