// Part of report.inl: curves as SVG.
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

namespace tl::inline TL_ABI::detail {

struct ChartPoint {
  double x, y, low, high;  // low and high are the edges of the shade
};

struct ChartLine {
  std::string name;
  size_t run;  // also its colour
  bool dashed;
  std::vector<ChartPoint> points;
};

struct Chart {
  std::string title, note;
  bool percent;
  std::vector<ChartLine> lines;
};

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
    const int exponent = static_cast<int>(std::floor(std::log10(std::abs(value)) + 1e-9));
    return text(fixed(value / std::pow(10.0, exponent), std::max(0, exponent - place)), 'e', exponent);
  }
};

/// Numbers that can be drawn: beyond 1e30 ranges would overflow.
inline bool is_drawable(double value) { return std::abs(value) < 1e30; }

/// The points that can be drawn, and of many no more than a line this wide can show.
inline std::vector<ChartPoint> drawable(const std::vector<ChartPoint>& points) {
  constexpr size_t kMost = 300;
  std::vector<ChartPoint> all, out;
  std::copy_if(points.begin(), points.end(), std::back_inserter(all), [](const auto& p) { return is_drawable(p.y); });
  if (all.size() <= kMost) return all;
  for (size_t i = 0; i < kMost; ++i) out.push_back(all[i * (all.size() - 1) / (kMost - 1)]);
  return out;
}

class ChartPainter {
 public:
  explicit ChartPainter(const Chart& chart) : chart_(chart) {
    for (const ChartLine& line : chart.lines) {
      widest_name_ = std::max(widest_name_, std::min(count_letters(line.name), kLongestName));
      for (const ChartPoint& p : line.points) {
        if (!is_drawable(p.y)) continue;
        include(p.x, x_low_, x_high_);
        for (const double y : {p.y, p.low, p.high})
          if (is_drawable(y)) include(y, y_low_, y_high_);
      }
    }
    const bool has_names = std::any_of(chart.lines.begin(), chart.lines.end(),
                                       [&](const ChartLine& line) { return line.run != chart.lines.front().run; });
    right_ = kWidth - 10 - (has_names ? 4 + 7.0 * static_cast<double>(widest_name_) : 0);
  }

  bool is_empty() const { return std::isnan(x_low_); }

  std::string paint() {
    if (x_low_ == x_high_) x_low_ -= 0.5, x_high_ += 0.5;
    const double range = y_high_ - y_low_, size = std::max(std::abs(y_low_), std::abs(y_high_));
    double pad = range > 0 ? std::max(range * 0.04, size * 1e-3) : size > 0 ? size * 0.5 : 0.5;
    if (chart_.percent) pad = std::clamp(pad, 0.005, 0.05);
    y_low_ = chart_.percent || y_low_ >= 0 ? std::max(y_low_ - pad, 0.0) : y_low_ - pad;
    y_high_ = chart_.percent ? std::max(std::min(y_high_ + pad, 1.0), y_low_ + pad) : y_high_ + pad;
    const Ticks y_ticks(y_low_, y_high_, 4);
    y_low_ = y_ticks.first, y_high_ = y_ticks.last();

    std::string out = text("<svg viewBox='0 0 ", kWidth, ' ', kHeight, "' role='img' aria-label='", html(chart_.title),
                           ": ", html(description()), "'>\n");
    for (int i = 0; i < y_ticks.count; ++i) {
      const std::string y = coordinate(y_of(y_ticks.at(i)));
      out += text("<line class='grid' x1='", kLeft, "' x2='", coordinate(right_), "' y1='", y, "' y2='", y,
                  "'/><text class='tick' text-anchor='end' x='", kLeft - 6, "' y='", y, "' dy='.35em'>",
                  y_ticks.label(i, chart_.percent), "</text>\n");
    }
    const Ticks x_ticks(x_low_, x_high_, 6, 1);
    for (int i = 0; i < x_ticks.count; ++i) {
      if (x_ticks.at(i) < x_low_ || x_ticks.at(i) > x_high_) continue;
      out += text("<text class='tick' text-anchor='middle' x='", coordinate(x_of(x_ticks.at(i))), "' y='", kBottom + 16,
                  "'>", fixed(x_ticks.at(i), 0), "</text>\n");
    }
    out += text("<text class='tick' text-anchor='middle' x='", coordinate((kLeft + right_) / 2), "' y='", kHeight - 4,
                "'>epoch</text>\n");
    for (const ChartLine& line : chart_.lines) paint_line(line, out);
    paint_names(out);
    return out + "</svg>\n";
  }

 private:
  static constexpr double kWidth = 380, kHeight = 250, kLeft = 46, kTop = 10, kBottom = 210, kNameHeight = 14;
  static constexpr size_t kLongestName = 12;

  static void include(double value, double& low, double& high) {
    low = std::isnan(low) ? value : std::min(low, value);
    high = std::isnan(high) ? value : std::max(high, value);
  }
  static std::string coordinate(double value) { return fixed(value, 1); }
  double x_of(double x) const { return kLeft + (x - x_low_) / (x_high_ - x_low_) * (right_ - kLeft); }
  double y_of(double y) const { return kBottom - (y - y_low_) / (y_high_ - y_low_) * (kBottom - kTop); }

  std::string value_text(double value) const { return chart_.percent ? detail::percent(value) : text(value); }

  static const ChartPoint* last_drawable(const ChartLine& line) {
    const ChartPoint* last = nullptr;
    for (const ChartPoint& p : line.points)
      if (is_drawable(p.y)) last = &p;
    return last;
  }

  std::string description() const {
    std::string out;
    for (const ChartLine& line : chart_.lines)
      if (const ChartPoint* last = last_drawable(line))
        out += text(out.empty() ? "" : "; ", line.name, line.dashed ? " in training" : "", ' ', value_text(last->y),
                    " after epoch ", fixed(last->x, 0));
    return out;
  }

  void paint_line(const ChartLine& line, std::string& out) const {
    constexpr size_t kMostDots = 30;
    const std::vector<ChartPoint> points = drawable(line.points);
    if (points.empty()) return;
    out += text("<g class='c", line.run, line.dashed ? " dashed" : "", "'>");
    if (!line.dashed) paint_shade(points, out);
    out += "<polyline points='";
    for (const ChartPoint& p : points) out += text(coordinate(x_of(p.x)), ',', coordinate(y_of(p.y)), ' ');
    out += "'/>";
    if (points.size() == 1 || (points.size() <= kMostDots && !line.dashed))
      for (const ChartPoint& p : points)
        out += text("<circle cx='", coordinate(x_of(p.x)), "' cy='", coordinate(y_of(p.y)), "' r='2.4'><title>",
                    html(line.name), ", epoch ", fixed(p.x, 0), ": ", value_text(p.y), "</title></circle>");
    out += "</g>\n";
  }

  void paint_shade(const std::vector<ChartPoint>& points, std::string& out) const {
    const auto is_flat = [](const ChartPoint& p) {
      return !(p.low < p.high && is_drawable(p.low) && is_drawable(p.high));
    };
    if (points.size() < 2 || std::all_of(points.begin(), points.end(), is_flat)) return;
    const auto add = [&](const ChartPoint& p, double y) {
      out += text(coordinate(x_of(p.x)), ',', coordinate(y_of(is_drawable(y) ? y : p.y)), ' ');
    };
    out += "<polygon points='";
    for (auto p = points.begin(); p != points.end(); ++p) add(*p, p->high);
    for (auto p = points.rbegin(); p != points.rend(); ++p) add(*p, p->low);
    out += "'/>";
  }

  /// The name of each run beside the end of its line, moved apart where two would overlap.
  void paint_names(std::string& out) const {
    struct Name {
      const ChartLine* line;
      double y;
    };
    std::vector<Name> names;
    for (auto line = chart_.lines.rbegin(); line != chart_.lines.rend(); ++line) {  // validation comes last, and before
      const ChartPoint* last = last_drawable(*line);
      const bool is_named =
          std::any_of(names.begin(), names.end(), [&](const Name& n) { return n.line->run == line->run; });
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
      out += text("<text class='name c", name.line->run, "' x='", coordinate(right_ + 7), "' y='", coordinate(name.y),
                  "' dy='.35em'>", html(name.line->name, kLongestName - 1), "</text>\n");
  }

  const Chart& chart_;
  size_t widest_name_ = 0;
  double right_;
  double x_low_ = kNoValue, x_high_ = kNoValue, y_low_ = kNoValue, y_high_ = kNoValue;
};

}  // namespace tl::inline TL_ABI::detail
