// Event files: a run's curves for TensorBoard, beside those of other runs and of other programs.
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tl/core/config.hpp"
#include "tl/io/file.hpp"
#include "tl/train/log.hpp"

namespace tl::inline TL_ABI {

/// A new event file in a folder, which TensorBoard shows as one run; several files in a folder are shown as one.
///
///     EventWriter events("runs/finetune");
///     events.add_scalar("loss/train", 0.31, 4);  events.flush();      // then: tensorboard --logdir runs
///
/// What was added reaches the disk with flush(), in whole records behind those that are there: a program that is killed
/// loses what it had not flushed, and a reader passes over a record that was cut. Names are cleaned: bytes that are not
/// UTF-8 and control characters are replaced, and tags that are empty are called "value".
/// Format: TFRecord frames (length, data, masked CRC-32C of each) of tensorflow.Event messages, version brain.Event:2.
/// PyTorch: torch.utils.tensorboard.SummaryWriter.
class EventWriter {
 public:
  /// Makes `folder` if it is missing, and in it a file of its own, named after time, process and count.
  /// Errors: IoError.
  explicit EventWriter(const std::string& folder);
  /// Flushes; an error is lost then.
  ~EventWriter();
  EventWriter(const EventWriter&) = delete;
  EventWriter& operator=(const EventWriter&) = delete;

  /// A point of the curve `tag`, in single precision. TensorBoard groups curves by what stands before the first '/'.
  void add_scalar(std::string_view tag, double value, int64_t step);
  /// How values are spread, in buckets whose limits grow by a tenth. NaN and infinity are left out.
  void add_histogram(std::string_view tag, std::span<const float> values, int64_t step);
  /// A text, as Markdown.
  void add_text(std::string_view tag, std::string_view markdown, int64_t step = 0);
  /// Pairs of texts as a table.
  void add_table(std::string_view tag, const std::vector<std::pair<std::string, std::string>>& rows, int64_t step = 0);

  /// Writes all that was added. Errors: IoError, after which the file ends with its last whole record, and what was
  /// added waits for the next flush.
  void flush();

  const std::string& path() const { return file_.path(); }

 private:
  void add_value(const std::string& value, int64_t step);
  void add_record(const std::string& event);

  AppendedFile file_;
  std::string pending_;
};

/// Adds an epoch's measures at its number: loss/train, loss/val, accuracy/train, accuracy/val, rate/<group>, the extras
/// by their names, and below run/ the seconds, peak bytes and trainable parameters. What was not measured is left out.
void add_epoch(EventWriter& events, const EpochRecord& epoch);

}  // namespace tl::inline TL_ABI

#if TL_HEADER_ONLY
#include "tl/train/tensorboard.inl"
#endif
