// A network together with what is needed to use it: architecture, classes and preprocessing, in one file.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "tl/io/state_dict.hpp"
#include "tl/models/create.hpp"

namespace tl::inline TL_ABI {
namespace models {

/// What a file says about the network in it.
struct ModelInfo {
  std::string arch;
  std::vector<std::string> classes = {};  ///< in order of the logits; empty when the file names none
  Preprocess preprocess = {};
  ModelOptions options = {};  ///< with the constants that are in no tensor (BatchNorm's eps, the padding rule)
};

struct ImageModel {
  std::unique_ptr<ImageClassifier> net;
  ModelInfo info;
  LoadReport report;
};

/// Loads a network from a file that tl wrote or weights/convert.py made.
///
/// The file's metadata gives the architecture, unless `arch` names it; constants that the metadata gives are used
/// (FR15), and what was frozen is frozen again; adapters are put on again (see save_adapters). The head has as many
/// classes as the file; a file without a head gets a fresh one with options.classes. Errors: IoError, FormatError;
/// StateDictError when the weights do not fit, or when `arch` or the network of that name contradicts the file
/// (activation, padding rule).
ImageModel load_image_model(const std::string& path, const std::string& arch = "", ModelOptions options = {});

/// Writes the network, atomically: weights, buffers, info, adapters and what is frozen. One whose adapters were merged
/// gives a plain file.
/// Errors: IoError; UsageError when there are other than as many class names as logits.
void save_image_model(const std::string& path, ImageClassifier& net, const ModelInfo& info, Metadata more = {});

/// Writes what was trained alone (see save_adapters), with classes and preprocessing.
/// Errors: those of save_adapters; UsageError when there are other than as many class names as logits.
void save_image_adapters(const std::string& path, ImageClassifier& net, const ModelInfo& info);

/// Puts what save_image_adapters wrote on the model whose weights it was trained on: a head of its size, adapters,
/// classes and preprocessing. Errors: those of load_adapters. After an error the model may have a new head.
void load_image_adapters(ImageModel& model, const std::string& path);

}  // namespace models
}  // namespace tl::inline TL_ABI

#if TL_HEADER_ONLY
#include "tl/models/model_file.inl"
#endif
