// Prediction for single pictures, from files and from memory, with the preprocessing that the model file asks for.
#pragma once
#include <string>
#include <utility>
#include <vector>

#include "tl/autograd/capture.hpp"
#include "tl/models/model_file.hpp"

namespace tl::inline TL_ABI {
namespace models {

struct Prediction {
  std::string name;   ///< of the likeliest class, or its number
  int64_t index = 0;  ///< of the likeliest class
  double probability = 0;
  std::vector<float> logits;
  std::vector<float> probabilities;

  /// The k likeliest classes, the first of equals first.
  std::vector<int64_t> top(int64_t k) const;
};

/// A network ready to predict. Pictures go in as they are: size, crop, channel order and normalisation come from the
/// file, and nobody else applies them. The path of a file and the same picture in memory give equal logits. The network
/// is recorded at the first prediction and replayed; see Capture.
class ImagePredictor {
 public:
  /// Errors: as load_image_model.
  explicit ImagePredictor(const std::string& model_file, const std::string& arch = "");
  explicit ImagePredictor(ImageModel model);

  /// Errors: NumericError when the logits are not finite, because the weights are not.
  Prediction predict(const Image& image);
  Prediction predict(const ImageView& image);
  /// Errors: those of predict; IoError, FormatError for a picture that cannot be read.
  Prediction predict_file(const std::string& path);

  const ImageModel& model() const { return model_; }
  /// The class' name, or its number when the file names none.
  std::string class_name(int64_t index) const;

 private:
  ImageModel model_;
  Pipeline pipeline_;
  Tensor input_;     // [1, size, size, channels]
  Capture network_;  // input_ -> logits and probabilities
};

}  // namespace models
}  // namespace tl::inline TL_ABI

#if TL_HEADER_ONLY
#include "tl/models/predict.inl"
#endif
