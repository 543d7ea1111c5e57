// Part of log.inl and report.inl: JSON of a RunLog.
#pragma once
#include <cmath>
#include <string>

#include "tl/io/json.hpp"
#include "tl/train/log.hpp"

namespace tl::inline TL_ABI::detail {

inline Json json_of(const NamedValues& values) {
  Json out = Json::array();  // a list of pairs: it keeps the order, and names that occur twice
  for (const auto& [name, value] : values) out.push_back({name, value});
  return out;
}

inline Json json_of(const RunLog& log) {
  Json epochs = Json::array();
  for (const EpochRecord& e : log.epochs)
    epochs.push_back({{"epoch", e.epoch},
                      {"train_loss", e.train_loss},
                      {"train_accuracy", e.train_accuracy},
                      {"val_loss", e.val_loss},
                      {"val_accuracy", e.val_accuracy},
                      {"rates", json_of(e.rates)},
                      {"extras", json_of(e.extras)},
                      {"seconds", e.seconds},
                      {"peak_bytes", e.peak_bytes},
                      {"trainable_parameters", e.trainable_parameters}});
  return {{"name", log.name},
          {"seed", log.seed},
          {"accuracy", log.accuracy},
          {"seconds", log.seconds},
          {"epochs", std::move(epochs)}};
}

/// NaN and infinity become null, bytes that are not UTF-8 become U+FFFD.
inline std::string dump(const Json& json) { return json.dump(1, ' ', false, Json::error_handler_t::replace) + '\n'; }

}  // namespace tl::inline TL_ABI::detail
