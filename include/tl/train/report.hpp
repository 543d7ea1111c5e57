// The report of a training: one HTML file to read, print and attach to a mail, and its numbers as JSON and CSV.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "tl/core/config.hpp"
#include "tl/train/calibration.hpp"
#include "tl/train/feature_map.hpp"
#include "tl/train/log.hpp"
#include "tl/train/metrics.hpp"
#include "tl/train/rate_finder.hpp"

namespace tl::inline TL_ABI {

/// One way to train, run with one or several seeds: a row of the table that sets runs side by side.
struct RunSummary {
  std::string name = {};           ///< "finetune"
  std::string note = {};           ///< what it does, in a few words
  std::vector<RunLog> seeds = {};  ///< at least one; curves show their mean and range

  Spread accuracy() const;     ///< final_accuracy of the seeds
  Spread seconds() const;      ///< total_seconds of the seeds
  int64_t peak_bytes() const;  ///< the largest of the seeds
  int64_t trainable_parameters() const;
};

/// A picture and what the network said to it.
struct PictureCard {
  std::string mime = "image/jpeg";  ///< or "image/png"
  std::string bytes = {};           ///< of the encoded picture; a side of 160 pixels is plenty
  std::string truth = {};           ///< name of the class; empty when it is not known
  std::string prediction = {};
  double probability = kNoValue;  ///< of the prediction
  std::string file = {};
};

/// What a report tells. Everything but the title may be empty, and is then left out of the page.
struct Report {
  std::string title = {};
  std::string summary = {};  ///< a sentence below the title; empty: written from the runs
  std::vector<std::pair<std::string, std::string>> facts = {};  ///< what was run: model, data, machine, versions
  std::vector<std::string> warnings = {};  ///< what the reader should know before he trusts a number
  std::vector<RunSummary> runs = {};

  std::string judged_run = {};            ///< name of the run that all below belongs to
  std::string judged_on = "Validation";   ///< or "Test": which pictures it was shown
  std::vector<std::string> classes = {};  ///< names; a class without one is shown by its number
  std::optional<ConfusionMatrix> confusion = {};
  /// How far confidence is from accuracy, by name: "as trained", "after temperature scaling".
  std::vector<std::pair<std::string, Reliability>> calibration = {};
  std::vector<FeatureMap> feature_maps = {};  ///< such as before and after training; labels index `classes`
  std::optional<RateCurve> rate_curve = {};   ///< the learning-rate finder's
  std::vector<PictureCard> mistakes = {};     ///< the worst first
  std::vector<PictureCard> examples = {};
};

/// The page: one file without scripts and without anything fetched from elsewhere, for light and dark screens, for
/// phones and paper. All text is escaped; bytes that are not UTF-8, control characters and marks that turn the
/// direction of writing are replaced. Errors: UsageError for a picture that is neither JPEG nor PNG.
std::string render_html(const Report& report);

/// The numbers of the report, without its pictures' bytes; NaN and infinity are null.
std::string render_json(const Report& report);

/// The runs side by side as lines of text for a terminal, each ending with a line feed; "" for no runs.
std::string render_text(const std::vector<RunSummary>& runs);

/// Writes report.html, report.json and for each run and seed <run>-seed<seed>.csv into `folder`, which is made if it is
/// missing; each file is written atomically.
/// Errors: IoError; those of render_html, before anything is written.
void write_report(const std::string& folder, const Report& report);

}  // namespace tl::inline TL_ABI

#if TL_HEADER_ONLY
#include "tl/train/report.inl"
#endif
