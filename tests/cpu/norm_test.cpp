// Batch and layer normalisation against references in double precision.
#include "cpu/outputs_check.hpp"

namespace {

using namespace tl;
using namespace tl_test;

struct Size {
  int64_t rows, cols;
};

const Size kBatchSizes[] = {{1, 1},    {1, 5},    {2, 3},     {5, 1},    {40000, 1}, {12000, 3}, {3007, 17}, {3000, 16},
                            {129, 64}, {515, 96}, {131, 130}, {7, 1280}, {4, 0},     {513, 65},  {5011, 24}};

struct Column {
  double mean = 0, variance = 0;
};

template <class T>
std::vector<Column> moments(const std::vector<T>& x, Size s) {
  std::vector<Column> out(static_cast<size_t>(s.cols));
  const auto rows = static_cast<long double>(s.rows);
  for (int64_t c = 0; c < s.cols; ++c) {
    long double total = 0, m2 = 0;
    for (int64_t r = 0; r < s.rows; ++r) total += static_cast<long double>(at(x, r * s.cols + c));
    for (int64_t r = 0; r < s.rows; ++r) {
      const long double distance = static_cast<long double>(at(x, r * s.cols + c)) - total / rows;
      m2 += distance * distance;
    }
    out[static_cast<size_t>(c)] = {static_cast<double>(total / rows), static_cast<double>(m2 / rows)};
  }
  return out;
}

double activated(Activation activation, double x) {
  if (activation == Activation::none) return x;
  return activation == Activation::relu ? std::max(x, 0.0) : std::min(std::max(x, 0.0), 6.0);
}

constexpr Activation kActivations[] = {Activation::none, Activation::relu, Activation::relu6};

template <class T>
const T* maybe(const std::vector<T>& x, bool wanted) {
  return wanted ? x.data() : nullptr;
}

}  // namespace

TEST_CASE_TEMPLATE("batch statistics, also beside a large mean", T, float, double) {
  std::mt19937 random(1);
  for (const Size s : kBatchSizes)
    for (const double offset : {0.0, 1000.0}) {
      CAPTURE(s.rows);
      CAPTURE(s.cols);
      CAPTURE(offset);
      auto x = random_numbers<T>(s.rows * s.cols, random);
      for (int64_t i = 0; i < s.rows * s.cols; ++i)
        x[static_cast<size_t>(i)] += static_cast<T>(offset * static_cast<double>(i % s.cols % 3 - 1));
      const auto columns = moments(x, s);
      const Wanted mean = wanted(s.cols, [&](int64_t c) {
        return Reference{columns[static_cast<size_t>(c)].mean, 1 + std::abs(columns[static_cast<size_t>(c)].mean)};
      });
      const Wanted variance = wanted(s.cols, [&](int64_t c) { return columns[static_cast<size_t>(c)].variance; });
      for_each_isa<T>([&](const KernelTable<T>& table) {
        check_outputs<T>({mean, variance}, 300, [&](const std::vector<T*>& out) {
          table.batch_statistics(
              {.x = x.data(), .mean = out[0], .variance = out[1], .rows = s.rows, .channels = s.cols});
        });
      });
    }
}

TEST_CASE_TEMPLATE("channel affine with residual and activation", T, float, double) {
  std::mt19937 random(2);
  for (const Size s : kBatchSizes) {
    CAPTURE(s.rows);
    CAPTURE(s.cols);
    const int64_t n = s.rows * s.cols;
    auto scale = random_numbers<T>(s.cols, random);
    for (T& value : scale) value *= T(8);
    const auto x = random_numbers<T>(n, random), shift = random_numbers<T>(s.cols, random);
    const auto residual = random_numbers<T>(n, random);
    for (const Activation activation : kActivations)
      for (const bool add : {false, true}) {
        const Wanted want = wanted(n, [&](int64_t i) {
          Reference sum;
          sum.add(at(scale, i % s.cols) * at(x, i));
          sum.add(at(shift, i % s.cols));
          if (add) sum.add(at(residual, i));
          sum.value = activated(activation, sum.value);
          return sum;
        });
        for_each_isa<T>([&](const KernelTable<T>& table) {
          check_outputs<T>({want}, 0, [&](const std::vector<T*>& y) {
            table.channel_affine({.x = x.data(),
                                  .scale = scale.data(),
                                  .shift = shift.data(),
                                  .residual = maybe(residual, add),
                                  .y = y[0],
                                  .rows = s.rows,
                                  .channels = s.cols,
                                  .activation = activation});
          });
        });
      }
  }
}

TEST_CASE_TEMPLATE("batch norm backward: batch and frozen statistics, activations, null outputs", T, float, double) {
  std::mt19937 random(3);
  for (const Size s : kBatchSizes) {
    CAPTURE(s.rows);
    CAPTURE(s.cols);
    const int64_t n = s.rows * s.cols;
    const auto x = random_numbers<T>(n, random), grad_y = random_numbers<T>(n, random);
    auto y = random_numbers<T>(n, random);
    for (T& value : y) value = std::clamp(value * T(9), T(0), T(6));
    const auto gamma = random_numbers<T>(s.cols, random);
    std::vector<T> mean, rstd;
    for (const Column& column : moments(x, s)) {
      mean.push_back(static_cast<T>(column.mean));
      rstd.push_back(static_cast<T>(1 / std::sqrt(column.variance + 1e-3)));
    }
    const auto count = static_cast<double>(s.rows);
    for (const Activation activation : kActivations)
      for (const bool frozen : {false, true})
        for (const bool has_gamma : {false, true}) {
          CAPTURE(static_cast<int>(activation));
          CAPTURE(frozen);
          const auto masked = [&](int64_t i) {
            const double value = at(y, i);
            const bool passes =
                activation == Activation::none || (value > 0 && (activation == Activation::relu || value < 6));
            return passes ? at(grad_y, i) : 0.0;
          };
          const auto xhat = [&](int64_t i) { return (at(x, i) - at(mean, i % s.cols)) * at(rstd, i % s.cols); };
          Wanted grad_beta(static_cast<size_t>(s.cols)), grad_gamma(grad_beta);
          for (int64_t i = 0; i < n; ++i) {
            grad_beta[static_cast<size_t>(i % s.cols)].add(masked(i));
            grad_gamma[static_cast<size_t>(i % s.cols)].add(masked(i) * xhat(i));
          }
          const Wanted grad_x = wanted(n, [&](int64_t i) {
            const auto c = static_cast<size_t>(i % s.cols);
            const double k = (has_gamma ? at(gamma, i % s.cols) : 1.0) * at(rstd, i % s.cols);
            Reference sum;
            sum.add(k * masked(i));
            if (!frozen) {
              sum.add(-k * grad_beta[c].value / count);
              sum.add(-k * xhat(i) * grad_gamma[c].value / count);
              // errors of the two sums
              sum.magnitude +=
                  std::abs(k) * (grad_beta[c].magnitude + std::abs(xhat(i)) * grad_gamma[c].magnitude) / count;
            }
            return sum;
          });
          const Wanted grad_residual = wanted(n, masked);
          BatchNormBackwardArgs<T> args{.grad_y = grad_y.data(),
                                        .x = x.data(),
                                        .y = maybe(y, activation != Activation::none),
                                        .gamma = maybe(gamma, has_gamma),
                                        .mean = mean.data(),
                                        .rstd = rstd.data(),
                                        .grad_x = nullptr,
                                        .grad_gamma = nullptr,
                                        .grad_beta = nullptr,
                                        .grad_residual = nullptr,
                                        .rows = s.rows,
                                        .channels = s.cols,
                                        .activation = activation,
                                        .frozen_statistics = frozen};
          for_each_isa<T>([&](const KernelTable<T>& table) {
            check_outputs<T>({grad_x, grad_gamma, grad_beta, grad_residual}, 100, [&](const std::vector<T*>& out) {
              auto all = args;
              all.grad_x = out[0], all.grad_gamma = out[1], all.grad_beta = out[2], all.grad_residual = out[3];
              table.batch_norm_backward(all);
            });
            check_outputs<T>({grad_x}, 100, [&](const std::vector<T*>& out) {
              auto one = args;
              one.grad_x = out[0];
              if (frozen) one.x = nullptr;
              table.batch_norm_backward(one);
            });
            check_outputs<T>({grad_beta}, 100, [&](const std::vector<T*>& out) {
              auto one = args;
              one.grad_beta = out[0];
              one.x = nullptr;
              table.batch_norm_backward(one);
            });
          });
        }
  }
}

TEST_CASE_TEMPLATE("layer norm forward and backward", T, float, double) {
  std::mt19937 random(4);
  for (const Size s : {Size{1, 1}, {1, 7}, {5, 16}, {33, 17}, {100, 384}, {70, 768}, {3, 5000}, {2000, 3}, {0, 4}})
    for (const bool affine : {false, true}) {
      CAPTURE(s.rows);
      CAPTURE(s.cols);
      CAPTURE(affine);
      const int64_t n = s.rows * s.cols;
      auto x = random_numbers<T>(n, random);
      for (T& value : x) value += T(3);
      const auto gamma = random_numbers<T>(s.cols, random), beta = random_numbers<T>(s.cols, random);
      const auto grad_y = random_numbers<T>(n, random);
      const double eps = static_cast<double>(T(1e-5)), cols = static_cast<double>(s.cols);
      std::vector<double> mean(static_cast<size_t>(s.rows)), rstd(mean);
      for (int64_t r = 0; r < s.rows; ++r) {
        const std::vector<T> row(x.begin() + r * s.cols, x.begin() + (r + 1) * s.cols);
        const Column column = moments(row, {s.cols, 1})[0];
        mean[static_cast<size_t>(r)] = column.mean;
        rstd[static_cast<size_t>(r)] = 1 / std::sqrt(column.variance + eps);
      }
      const auto xhat = [&](int64_t i) { return (at(x, i) - at(mean, i / s.cols)) * at(rstd, i / s.cols); };
      const auto slope = [&](int64_t i) { return affine ? at(gamma, i % s.cols) : 1.0; };
      const Wanted y = wanted(n, [&](int64_t i) {
        Reference sum;
        sum.add(xhat(i) * slope(i));
        if (affine) sum.add(at(beta, i % s.cols));
        sum.magnitude += 4 * at(rstd, i / s.cols);  // the mean's rounding, magnified
        return sum;
      });
      Wanted grad_gamma(static_cast<size_t>(s.cols)), grad_beta(grad_gamma), grad_x(static_cast<size_t>(n));
      for (int64_t r = 0; r < s.rows; ++r) {
        Reference sum_g, sum_gx;
        for (int64_t i = r * s.cols; i < (r + 1) * s.cols; ++i) {
          sum_g.add(at(grad_y, i) * slope(i) / cols);
          sum_gx.add(at(grad_y, i) * slope(i) * xhat(i) / cols);
          grad_gamma[static_cast<size_t>(i % s.cols)].add(at(grad_y, i) * xhat(i));
          grad_beta[static_cast<size_t>(i % s.cols)].add(at(grad_y, i));
        }
        for (int64_t i = r * s.cols; i < (r + 1) * s.cols; ++i) {
          const double k = at(rstd, r);
          Reference& sum = grad_x[static_cast<size_t>(i)];
          sum.add(k * at(grad_y, i) * slope(i));
          sum.add(-k * sum_g.value);
          sum.add(-k * xhat(i) * sum_gx.value);
          sum.magnitude +=
              k * (sum_g.magnitude + (k + std::abs(xhat(i))) * (sum_gx.magnitude + std::abs(sum_gx.value)));
        }
      }
      for (int64_t c = 0; c < s.cols; ++c)  // xhat's own error
        for (int64_t r = 0; r < s.rows; ++r)
          grad_gamma[static_cast<size_t>(c)].magnitude += 4 * at(rstd, r) / static_cast<double>(s.rows);
      const std::vector<T> mean_t(mean.begin(), mean.end()), rstd_t(rstd.begin(), rstd.end());
      for_each_isa<T>([&](const KernelTable<T>& table) {
        check_outputs<T>({y, wanted(s.rows, [&](int64_t r) { return at(mean, r); }),
                          wanted(s.rows, [&](int64_t r) { return at(rstd, r); })},
                         100, [&](const std::vector<T*>& out) {
                           table.layer_norm({.x = x.data(),
                                             .gamma = maybe(gamma, affine),
                                             .beta = maybe(beta, affine),
                                             .y = out[0],
                                             .mean = out[1],
                                             .rstd = out[2],
                                             .rows = s.rows,
                                             .cols = s.cols,
                                             .eps = T(1e-5)});
                         });
        LayerNormBackwardArgs<T> args{.grad_y = grad_y.data(),
                                      .x = x.data(),
                                      .gamma = maybe(gamma, affine),
                                      .mean = mean_t.data(),
                                      .rstd = rstd_t.data(),
                                      .grad_x = nullptr,
                                      .grad_gamma = nullptr,
                                      .grad_beta = nullptr,
                                      .rows = s.rows,
                                      .cols = s.cols};
        check_outputs<T>({grad_x, grad_gamma, grad_beta}, 100, [&](const std::vector<T*>& out) {
          args.grad_x = out[0], args.grad_gamma = out[1], args.grad_beta = out[2];
          table.layer_norm_backward(args);
        });
        check_outputs<T>({grad_x}, 100, [&](const std::vector<T*>& out) {
          args.grad_x = out[0], args.grad_gamma = args.grad_beta = nullptr;
          table.layer_norm_backward(args);
        });
        check_outputs<T>({grad_gamma}, 100, [&](const std::vector<T*>& out) {
          args.grad_gamma = out[0], args.grad_x = args.grad_beta = nullptr;
          table.layer_norm_backward(args);
        });
      });
    }
}
