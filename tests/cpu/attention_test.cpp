// Attention's kernels against a reference in double precision, with heads side by side and apart.
#include "cpu/outputs_check.hpp"

namespace {

using namespace tl;
using namespace tl_test;

struct Case {
  AttentionSize size;
  bool side_by_side = false, masked = false, causal = false;

  int64_t heads() const { return size.n * size.heads; }

  template <class T>
  HeadRows<T> rows(T* data, int64_t count, int64_t width) const {
    if (side_by_side) return {data, count * size.heads * width, width, size.heads * width};
    return {data, size.heads * count * width, count * width, width};
  }
  bool sees(const std::vector<int32_t>& mask, int64_t sample, int64_t query, int64_t key) const {
    return (!masked || mask[static_cast<size_t>(sample * size.keys + key)] != 0) && (!causal || key <= query);
  }
};

const Case kCases[] = {
    {.size = {1, 1, 1, 1, 1, 1}},
    {.size = {2, 3, 5, 7, 6, 4}},
    {.size = {2, 2, 40, 40, 32, 32}, .side_by_side = true, .masked = true},
    {.size = {1, 2, 150, 290, 17, 33}, .masked = true, .causal = true},
    {.size = {1, 2, 290, 150, 64, 16}, .side_by_side = true, .causal = true},
    {.size = {1, 2, 3, 0, 4, 4}},
    {.size = {0, 2, 3, 3, 4, 4}},
};

/// Values and gradients of one case.
struct Results {
  Wanted y, log_sum_exp, grad_q, grad_k, grad_v;
};

Results reference_of(const Case& c, const std::vector<float>& q, const std::vector<float>& k,
                     const std::vector<float>& v, const std::vector<float>& grad_y, const std::vector<int32_t>& mask,
                     double scale) {
  const auto& [n, heads, queries, keys, width, value_width] = c.size;
  Results out;
  out.y.resize(static_cast<size_t>(c.heads() * queries * value_width));
  out.log_sum_exp.resize(static_cast<size_t>(c.heads() * queries));
  out.grad_q.resize(q.size()), out.grad_k.resize(k.size()), out.grad_v.resize(v.size());
  for (int64_t sample = 0; sample < n; ++sample)
    for (int64_t head = 0; head < heads; ++head) {
      const auto place = [&](int64_t row, int64_t col, int64_t count, int64_t columns) {
        const auto view = c.rows<char>(nullptr, count, columns);
        return sample * view.sample_stride + head * view.head_stride + row * view.row_stride + col;
      };
      for (int64_t t = 0; t < queries; ++t) {
        std::vector<double> p(static_cast<size_t>(keys)), slope(p);
        double total = 0, inner = 0;
        for (int64_t s = 0; s < keys; ++s) {
          double score = 0;
          for (int64_t d = 0; d < width; ++d)
            score += at(q, place(t, d, queries, width)) * at(k, place(s, d, keys, width));
          if (c.sees(mask, sample, t, s)) total += p[static_cast<size_t>(s)] = std::exp(scale * score);
        }
        out.log_sum_exp[static_cast<size_t>((sample * heads + head) * queries + t)] = {
            total > 0 ? std::log(total) : kInfinity, 8};
        for (int64_t s = 0; s < keys; ++s) {
          double& weight = p[static_cast<size_t>(s)];
          weight = total > 0 ? weight / total : 0;
          for (int64_t e = 0; e < value_width; ++e) {
            const double value = at(v, place(s, e, keys, value_width)),
                         grad = at(grad_y, place(t, e, queries, value_width));
            Reference& y = out.y[static_cast<size_t>(place(t, e, queries, value_width))];
            y.value += weight * value;
            y.magnitude += 4 * weight;
            Reference& grad_v = out.grad_v[static_cast<size_t>(place(s, e, keys, value_width))];
            grad_v.value += weight * grad;
            grad_v.magnitude += 4 * weight;
            slope[static_cast<size_t>(s)] += grad * value;
          }
          inner += weight * slope[static_cast<size_t>(s)];
        }
        for (int64_t s = 0; s < keys; ++s) {
          const double weight = scale * p[static_cast<size_t>(s)],
                       slope_s = weight * (slope[static_cast<size_t>(s)] - inner);
          const double size = 4 * weight * static_cast<double>(value_width);
          for (int64_t d = 0; d < width; ++d) {
            Reference& grad_q = out.grad_q[static_cast<size_t>(place(t, d, queries, width))];
            grad_q.value += slope_s * at(k, place(s, d, keys, width));
            grad_q.magnitude += size;
            Reference& grad_k = out.grad_k[static_cast<size_t>(place(s, d, keys, width))];
            grad_k.value += slope_s * at(q, place(t, d, queries, width));
            grad_k.magnitude += size;
          }
        }
      }
    }
  for (Wanted* output : {&out.y, &out.grad_q, &out.grad_k, &out.grad_v})
    for (Reference& reference : *output) reference.magnitude += 1e-6;  // the weight of what is hidden
  return out;
}

}  // namespace

TEST_CASE("attention forward and backward: values, guards, threads, instruction sets") {
  std::mt19937 random(1);
  for (const Case& c : kCases) {
    CAPTURE(c.size.queries);
    CAPTURE(c.size.keys);
    const int64_t queries = c.size.queries, keys = c.size.keys, width = c.size.width, value_width = c.size.value_width;
    const auto q = random_numbers<float>(c.heads() * queries * width, random),
               k = random_numbers<float>(c.heads() * keys * width, random),
               v = random_numbers<float>(c.heads() * keys * value_width, random),
               grad_y = random_numbers<float>(c.heads() * queries * value_width, random);
    std::vector<int32_t> mask(static_cast<size_t>(c.size.n * keys));
    for (size_t i = 0; i < mask.size(); ++i) mask[i] = i % 5 != 0 && i > 3;
    const double scale = 1 / std::sqrt(static_cast<double>(width));
    const Results want = reference_of(c, q, k, v, grad_y, mask, scale);
    const int32_t* const mask_or_null = c.masked ? mask.data() : nullptr;
    std::vector<float> y, log_sum_exp;
    for (const Reference& reference : want.y) y.push_back(static_cast<float>(reference.value));
    for (const Reference& reference : want.log_sum_exp) log_sum_exp.push_back(static_cast<float>(reference.value));

    for_each_isa<float>([&](const KernelTable<float>& table) {
      if (!table.attention_forward) return;
      AttentionForwardArgs<float> forward{.size = c.size,
                                          .q = c.rows(q.data(), queries, width),
                                          .k = c.rows(k.data(), keys, width),
                                          .v = c.rows(v.data(), keys, value_width),
                                          .y = {},
                                          .key_mask = mask_or_null,
                                          .log_sum_exp = nullptr,
                                          .scale = static_cast<float>(scale),
                                          .causal = c.causal};
      check_outputs<float>({want.y}, 100, [&](const std::vector<float*>& out) {
        forward.y = c.rows(out[0], queries, value_width);
        table.attention_forward(forward);
      });
      std::vector<float> kept(log_sum_exp.size());
      check_outputs<float>({want.y}, 100, [&](const std::vector<float*>& out) {
        forward.y = c.rows(out[0], queries, value_width);
        forward.log_sum_exp = kept.data();
        table.attention_forward(forward);
      });
      for (size_t i = 0; i < kept.size(); ++i)
        CHECK((kept[i] == log_sum_exp[i] || std::abs(kept[i] - log_sum_exp[i]) < 4e-6f));

      AttentionBackwardArgs<float> backward{.size = c.size,
                                            .q = forward.q,
                                            .k = forward.k,
                                            .v = forward.v,
                                            .y = c.rows<const float>(y.data(), queries, value_width),
                                            .grad_y = c.rows(grad_y.data(), queries, value_width),
                                            .grad_q = {},
                                            .grad_k = {},
                                            .grad_v = {},
                                            .key_mask = mask_or_null,
                                            .log_sum_exp = log_sum_exp.data(),
                                            .scale = static_cast<float>(scale),
                                            .causal = c.causal};
      check_outputs<float>({want.grad_q, want.grad_k, want.grad_v}, 100, [&](const std::vector<float*>& out) {
        backward.grad_q = c.rows(out[0], queries, width);
        backward.grad_k = c.rows(out[1], keys, width);
        backward.grad_v = c.rows(out[2], keys, value_width);
        table.attention_backward(backward);
      });
      backward.grad_q = backward.grad_k = {};
      check_outputs<float>({want.grad_v}, 100, [&](const std::vector<float*>& out) {
        backward.grad_v = c.rows(out[0], keys, value_width);
        table.attention_backward(backward);
      });
    });
  }
}

TEST_CASE("attention keeps a NaN in its own query, and scores that exp alone would overflow on") {
  const float q[] = {1000, std::numeric_limits<float>::quiet_NaN(), -1000}, k[] = {1, 0, -1}, v[] = {1, 2, 3};
  for_each_isa<float>([&](const KernelTable<float>& table) {
    if (!table.attention_forward) return;
    float y[3];
    table.attention_forward({.size = {1, 1, 3, 3, 1, 1},
                             .q = {q, 3, 3, 1},
                             .k = {k, 3, 3, 1},
                             .v = {v, 3, 3, 1},
                             .y = {y, 3, 3, 1},
                             .key_mask = nullptr,
                             .log_sum_exp = nullptr,
                             .scale = 1,
                             .causal = false});
    CHECK(y[0] == 1);
    CHECK(std::isnan(y[1]));
    CHECK(y[2] == 3);
  });
}
