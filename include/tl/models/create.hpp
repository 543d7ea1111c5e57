// Networks by name.
#pragma once
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "tl/models/image_classifier.hpp"

namespace tl::inline TL_ABI {
namespace models {

/// A network by the name that its reference library uses; see `model_names`.
/// Errors: UsageError for an unknown name, with the nearest ones.
std::unique_ptr<ImageClassifier> create(std::string_view arch, const ModelOptions& options = {});

/// All names that `create` knows.
const std::vector<std::string>& model_names();

}  // namespace models
}  // namespace tl::inline TL_ABI

#if TL_HEADER_ONLY
#include "tl/models/create.inl"
#endif
