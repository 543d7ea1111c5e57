// Softmax and cross-entropy against references in double precision.
#include "cpu/outputs_check.hpp"

namespace {

using namespace tl;
using namespace tl_test;

struct Size {
  int64_t rows, cols;
};

const Size kSizes[] = {{1, 1}, {3, 2}, {64, 10}, {5, 17}, {70, 1000}, {2, 30000}, {5000, 3}, {0, 4}};

struct Row {
  double largest = -kInfinity, log_sum = 0;

  double log_probability(double x) const { return x - largest - log_sum; }
};

template <class T>
std::vector<Row> rows_of(const std::vector<T>& x, Size s) {
  std::vector<Row> out(static_cast<size_t>(s.rows));
  for (int64_t r = 0; r < s.rows; ++r) {
    Row& row = out[static_cast<size_t>(r)];
    long double total = 0;
    for (int64_t c = 0; c < s.cols; ++c) row.largest = std::max(row.largest, at(x, r * s.cols + c));
    for (int64_t c = 0; c < s.cols; ++c)
      total += std::exp(static_cast<long double>(at(x, r * s.cols + c) - row.largest));
    row.log_sum = static_cast<double>(std::log(total));
  }
  return out;
}

template <class T>
std::vector<T> logits(Size s, std::mt19937& random) {
  auto x = random_numbers<T>(s.rows * s.cols, random);
  for (T& value : x) value = value * T(10) + T(50);
  return x;
}

}  // namespace

TEST_CASE_TEMPLATE("softmax and log-softmax, forward and backward", T, float, double) {
  std::mt19937 random(1);
  for (const Size s : kSizes)
    for (const bool logarithm : {false, true}) {
      CAPTURE(s.rows);
      CAPTURE(s.cols);
      CAPTURE(logarithm);
      const int64_t n = s.rows * s.cols;
      const auto x = logits<T>(s, random), grad_y = random_numbers<T>(n, random);
      const auto rows = rows_of(x, s);
      const auto log_p = [&](int64_t i) { return rows[static_cast<size_t>(i / s.cols)].log_probability(at(x, i)); };
      const Wanted want = wanted(n, [&](int64_t i) {
        const double value = logarithm ? log_p(i) : std::exp(log_p(i));
        return Reference{value, logarithm ? 10 + std::abs(value) : 10 * value};  // x itself was rounded at 50
      });
      std::vector<T> y(x.size());
      for (size_t i = 0; i < y.size(); ++i) y[i] = static_cast<T>(want[i].value);
      Wanted grad_x(y.size());
      for (int64_t r = 0; r < s.rows; ++r) {
        Reference total;
        for (int64_t i = r * s.cols; i < (r + 1) * s.cols; ++i) total.add(at(grad_y, i) * (logarithm ? 1 : at(y, i)));
        for (int64_t i = r * s.cols; i < (r + 1) * s.cols; ++i) {
          const double scale = logarithm ? std::exp(at(y, i)) : at(y, i);
          Reference& sum = grad_x[static_cast<size_t>(i)];
          sum.add(logarithm ? at(grad_y, i) : at(grad_y, i) * scale);
          sum.add(-scale * total.value);
          sum.magnitude += scale * total.magnitude;
        }
      }
      for_each_isa<T>([&](const KernelTable<T>& table) {
        check_outputs<T>({want}, 100, [&](const std::vector<T*>& out) {
          table.softmax({.x = x.data(), .y = out[0], .rows = s.rows, .cols = s.cols, .logarithm = logarithm});
        });
        check_outputs<T>({grad_x}, 100, [&](const std::vector<T*>& out) {
          table.softmax_backward({.y = y.data(),
                                  .grad_y = grad_y.data(),
                                  .grad_x = out[0],
                                  .rows = s.rows,
                                  .cols = s.cols,
                                  .logarithm = logarithm});
        });
      });
    }
}

TEST_CASE_TEMPLATE("softmax of large logits, of -inf and of NaN", T, float, double) {
  const T low = -std::numeric_limits<T>::infinity(), nan = std::numeric_limits<T>::quiet_NaN();
  const std::vector<T> x{T(1e30), T(1e30), T(-1e30), low,  // two halves
                         low,     low,     low,      low,  // nothing to attend to: zeros
                         0,       nan,     0,        0};   // a NaN spoils its row
  for_each_isa<T>([&](const KernelTable<T>& table) {
    std::vector<T> y(12);
    table.softmax({.x = x.data(), .y = y.data(), .rows = 3, .cols = 4, .logarithm = false});
    CHECK(y[0] == T(0.5));
    CHECK(y[1] == T(0.5));
    CHECK(y[2] == 0);
    for (size_t i = 3; i < 8; ++i) CHECK(y[i] == 0);
    for (size_t i = 8; i < 12; ++i) CHECK(std::isnan(y[i]));
  });
}

TEST_CASE_TEMPLATE("cross-entropy with class weights, smoothing and ignored rows", T, float, double) {
  std::mt19937 random(2);
  constexpr int32_t kIgnore = -100;
  for (const Size s : kSizes)
    for (const double smoothing : {0.0, 0.125})
      for (const bool weighted : {false, true}) {
        CAPTURE(s.rows);
        CAPTURE(s.cols);
        CAPTURE(smoothing);
        CAPTURE(weighted);
        const auto x = logits<T>(s, random), grad_loss = random_numbers<T>(s.rows, random);
        auto weights = random_numbers<T>(s.cols, random);
        for (T& value : weights) value = std::abs(value);
        std::vector<int32_t> target;
        for (int64_t r = 0; r < s.rows; ++r)
          target.push_back(r % 5 == 3 ? kIgnore : static_cast<int32_t>(random() % static_cast<uint32_t>(s.cols)));
        const auto rows = rows_of(x, s);
        const auto weight_of = [&](int64_t c) { return weighted ? at(weights, c) : 1.0; };
        const double spread = smoothing / static_cast<double>(s.cols);
        Wanted loss, weight, lse, grad_x;
        std::vector<T> lse_given;
        for (int64_t r = 0; r < s.rows; ++r) {
          const int32_t t = target[static_cast<size_t>(r)];
          const Row& row = rows[static_cast<size_t>(r)];
          Reference sum;
          long double all = 0, smooth = 0;
          if (t != kIgnore) {
            sum.add((1 - smoothing) * weight_of(t) * -row.log_probability(at(x, r * s.cols + t)));
            all = static_cast<long double>((1 - smoothing) * weight_of(t));
            for (int64_t c = 0; c < s.cols; ++c) {
              smooth += static_cast<long double>(spread * weight_of(c) * -row.log_probability(at(x, r * s.cols + c)));
              all += static_cast<long double>(spread * weight_of(c));
            }
            sum.add(static_cast<double>(smooth));
            sum.magnitude += 1;
          }
          loss.push_back(sum);
          weight.push_back({t == kIgnore ? 0 : weight_of(t), 1});
          lse.push_back({t == kIgnore ? 0 : row.largest + row.log_sum, 60});
          lse_given.push_back(static_cast<T>(lse.back().value));
          for (int64_t c = 0; c < s.cols; ++c) {
            const double p = std::exp(row.log_probability(at(x, r * s.cols + c)));
            const double own = (c == t ? (1 - smoothing) * weight_of(t) : 0) + spread * weight_of(c);
            const double g = t == kIgnore ? 0 : at(grad_loss, r);
            const double pull = p * static_cast<double>(all);
            grad_x.push_back({g * (pull - own), std::abs(g) * (60 * pull + own)});
          }
        }
        for_each_isa<T>([&](const KernelTable<T>& table) {
          check_outputs<T>({loss, weight, lse}, 100, [&](const std::vector<T*>& out) {
            table.cross_entropy({.x = x.data(),
                                 .target = target.data(),
                                 .class_weight = weighted ? weights.data() : nullptr,
                                 .loss = out[0],
                                 .weight = out[1],
                                 .log_sum_exp = out[2],
                                 .rows = s.rows,
                                 .cols = s.cols,
                                 .smoothing = T(smoothing),
                                 .ignore_index = kIgnore});
          });
          check_outputs<T>({grad_x}, 100, [&](const std::vector<T*>& out) {
            table.cross_entropy_backward({.x = x.data(),
                                          .target = target.data(),
                                          .class_weight = weighted ? weights.data() : nullptr,
                                          .log_sum_exp = lse_given.data(),
                                          .grad_loss = grad_loss.data(),
                                          .grad_x = out[0],
                                          .rows = s.rows,
                                          .cols = s.cols,
                                          .smoothing = T(smoothing),
                                          .ignore_index = kIgnore});
          });
        });
      }
}
