// What happened in a run, epoch by epoch, as JSON and as a table.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tl/core/config.hpp"
#include "tl/train/metrics.hpp"

namespace tl::inline TL_ABI {

using NamedValues = std::vector<std::pair<std::string, double>>;

/// One epoch. kNoValue stands for what was not measured. Accuracies are shares, from 0 to 1.
struct EpochRecord {
  int64_t epoch = 0;  ///< counted from 1
  double train_loss = kNoValue, train_accuracy = kNoValue;
  double val_loss = kNoValue, val_accuracy = kNoValue;
  /// Learning rate at the end of the epoch, by name of the parameter group; kNoValue where the whole group was frozen.
  NamedValues rates = {};
  NamedValues extras = {};    ///< further measures by name: the losses and lambda of domain adaptation, say
  double seconds = kNoValue;  ///< of this epoch, validation included
  int64_t peak_bytes = 0;     ///< of tensors, since the run began
  int64_t trainable_parameters = 0;
};

/// The story of one run: one network, one strategy, one seed.
struct RunLog {
  std::string name = {};
  uint64_t seed = 0;
  std::vector<EpochRecord> epochs = {};
  double accuracy = kNoValue;  ///< in validation, of the weights that were kept; kNoValue: that of the last epoch
  double seconds = kNoValue;   ///< of the whole run; kNoValue: the sum of the epochs

  double final_accuracy() const;
  double total_seconds() const;
  int64_t peak_bytes() const;
  int64_t trainable_parameters() const;  ///< in the last epoch
  /// The record with the best validation accuracy, the first of equals; nullptr when there is none.
  const EpochRecord* best_epoch() const;

  /// JSON, in which NaN and infinity are null, and bytes that are not UTF-8 are replaced.
  std::string to_json() const;
  /// Reads to_json's text back, null as kNoValue; absent keys keep their defaults. `source` stands in error messages.
  /// Errors: FormatError for what is not JSON, or has a value of another type.
  static RunLog from_json(std::string_view json, const std::string& source);

  /// One line per epoch below a line of names, separated by commas, quoted as in RFC 4180. Numbers are written so that
  /// reading gives the same bits; NaN and infinity as nan, inf, -inf. What an epoch lacks is left empty.
  std::string to_csv() const;

  /// Errors: IoError.
  void write_json(const std::string& path) const;
  void write_csv(const std::string& path) const;
};

}  // namespace tl::inline TL_ABI

#if TL_HEADER_ONLY
#include "tl/train/log.inl"
#endif
