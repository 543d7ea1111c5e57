// Definitions of train/checkpoint.hpp.
#pragma once
#include <bit>

#include "tl/core/log.hpp"
#include "tl/io/json.hpp"
#include "tl/nn/freeze.hpp"
#include "tl/nn/init.hpp"
#include "tl/train/checkpoint.hpp"

namespace tl::inline TL_ABI {
namespace detail {

/// Doubles travel as bits: JSON would lose NaN, and a sum must come back exactly.
TL_INLINE std::string bits_of(double value) { return std::to_string(std::bit_cast<uint64_t>(value)); }

TL_INLINE double from_bits(const Json& json) { return std::bit_cast<double>(std::stoull(json.get<std::string>())); }

}  // namespace detail

TL_INLINE void save_checkpoint(const std::string& path, nn::Module& net, optim::Optimizer& optimizer,
                               const TrainState& state) {
  std::vector<NamedTensor> tensors;
  const auto add = [&](const std::string& prefix, const auto& list) {
    for (const auto& entry : list) tensors.push_back({prefix + entry.name, entry.tensor});
  };
  add("net/", copy_weights(net));
  add("optimizer/", optimizer.state());
  add("best/", state.best_weights);
  add("average/", state.average);
  add("objective/", state.objective);
  const Generator::State random = default_generator().state();
  using detail::Json;
  Json rates = Json::array();
  for (const auto& group : optimizer.groups()) rates.push_back({group.name, detail::bits_of(group.rate)});
  Json terms = Json::array();
  for (const auto& [name, mean] : state.terms)
    terms.push_back({name, detail::bits_of(mean.sum()), detail::bits_of(mean.weight())});
  const Json position = {
      {"epoch", state.epoch},
      {"batch", state.batch},
      {"step", state.step},
      {"loss", {detail::bits_of(state.loss.sum()), detail::bits_of(state.loss.weight())}},
      {"accuracy", {detail::bits_of(state.accuracy.sum()), detail::bits_of(state.accuracy.weight())}},
      {"best", detail::bits_of(state.best)},
      {"best_epoch", state.best_epoch},
      {"random", {std::to_string(random.seed), std::to_string(random.position)}},
      {"rates", rates},
      {"terms", terms},
      {"frozen", frozen_names(net)},
      {"log", state.log.to_json()}};
  write_safetensors(
      path, std::move(tensors),
      {{"format", "tl-checkpoint"}, {"position", position.dump(-1, ' ', false, Json::error_handler_t::replace)}});
}

TL_INLINE TrainState load_checkpoint(const std::string& path, nn::Module& net, optim::Optimizer& optimizer) {
  const SafetensorsFile file(path);
  const auto entry = file.metadata().find("position");
  if (entry == file.metadata().end())
    throw FormatError(path, "", 8, "is no checkpoint: it has weights, but no position");
  TrainState state;
  std::vector<std::string> frozen;
  std::map<std::string, double> rates;
  Generator::State random;
  try {
    const auto position = detail::Json::parse(entry->second);
    position.at("epoch").get_to(state.epoch);
    position.at("batch").get_to(state.batch);
    position.at("step").get_to(state.step);
    state.loss =
        Mean::restored(detail::from_bits(position.at("loss").at(0)), detail::from_bits(position.at("loss").at(1)));
    state.accuracy = Mean::restored(detail::from_bits(position.at("accuracy").at(0)),
                                    detail::from_bits(position.at("accuracy").at(1)));
    state.best = detail::from_bits(position.at("best"));
    position.at("best_epoch").get_to(state.best_epoch);
    random = {std::stoull(position.at("random").at(0).get<std::string>()),
              std::stoull(position.at("random").at(1).get<std::string>())};
    position.at("frozen").get_to(frozen);
    state.log = RunLog::from_json(position.at("log").get<std::string>(), path);
    for (const auto& [name, bits] : position.at("rates").get<std::vector<std::pair<std::string, std::string>>>())
      rates[name] = detail::from_bits(bits);
    using Term = std::tuple<std::string, std::string, std::string>;  // name, and the bits of a mean
    for (const auto& [name, sum, weight] : position.at("terms").get<std::vector<Term>>())
      state.terms[name] = Mean::restored(detail::from_bits(sum), detail::from_bits(weight));
  } catch (const std::logic_error&) {  // a number that is none
    throw FormatError(path, "__metadata__ position", 8, "holds something that is no number");
  } catch (const detail::Json::exception& error) {
    throw FormatError(path, "__metadata__ position", 8, error.what());
  }
  require<StateDictError>(state.epoch >= 0 && state.batch >= 0 && state.step >= 0, path, ": a position below 0");

  std::vector<NamedTensor> weights;
  std::vector<optim::NamedState> moments;
  for (const auto& [name, unused] : file.entries()) {
    if (name.starts_with("net/")) weights.push_back({name.substr(4), file.tensor(name)});
    if (name.starts_with("best/")) state.best_weights.push_back({name.substr(5), file.tensor(name).clone()});
    if (name.starts_with("average/")) state.average.push_back({name.substr(8), file.tensor(name).clone()});
    if (name.starts_with("objective/")) state.objective.push_back({name.substr(10), file.tensor(name).clone()});
    if (name.starts_with("optimizer/")) moments.push_back({name.substr(10), file.tensor(name)});
  }
  if (!state.best_weights.empty()) (void)matched_copies(net, state.best_weights);
  (void)matched_copies(net, weights);
  const std::vector<std::string> frozen_before = frozen_names(net);
  set_frozen_names(net, frozen);
  try {
    optimizer.load_state(moments);
  } catch (const Error&) {
    set_frozen_names(net, frozen_before);
    throw;
  }
  // Nothing can fail from here on.
  restore_weights(net, weights);
  for (auto& group : optimizer.groups()) {
    const auto saved = rates.find(group.name);
    if (saved == rates.end() || saved->second == group.rate) continue;
    warn(text(path, ": the group ", group.name, " goes on with the rate ", saved->second, ", not ", group.rate));
    group.rate = saved->second;
  }
  default_generator().set_state(random);
  return state;
}

}  // namespace tl::inline TL_ABI
