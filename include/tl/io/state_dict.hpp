// A network's parameters and buffers by name: saved, and loaded with every difference reported.
#pragma once
#include <functional>
#include <string>
#include <vector>

#include "tl/io/safetensors.hpp"
#include "tl/nn/module.hpp"

namespace tl::inline TL_ABI {

/// All parameters and buffers in the layout of files (PyTorch's), tied ones once.
std::vector<NamedTensor> state_dict(nn::Module& net);

/// Names of tied parameters that state_dict leaves out, each with the name that stands for it.
Metadata tied_names(nn::Module& net);

struct LoadOptions {
  /// Globs of names that may be missing, left over or of another shape; they keep their values. Empty: strict.
  std::vector<std::string> partial = {};
  /// Applied to each name of the file; an empty result drops the tensor.
  std::function<std::string(const std::string&)> rename = {};
};

struct LoadReport {
  int64_t matched = 0;                  ///< tensors taken over
  int64_t total = 0;                    ///< tensors that the network has
  std::vector<std::string> missing;     ///< of the network, kept as they were
  std::vector<std::string> unexpected;  ///< of the file, left aside
  std::vector<std::string> misshaped;   ///< "name: network [..], file [..]", kept as they were
  std::vector<std::string> notes;       ///< what was adapted: prefixes stripped, names mapped, tensors tied
};

/// Loads weights by name into a network.
///
/// Names are adapted where that is safe, with a note: prefixes "module.", "model.", "_orig_mod." and "backbone." are
/// stripped where that makes more names fit, and "gamma" and "beta" of norms become "weight" and "bias". A name that
/// the file's metadata gives as an alias of another ("a": "b") is tied to it, and what the network ties needs to be
/// stored once. f16, bf16 and f64 are converted. Missing counters (num_batches_tracked) are left alone.
/// On the CPU what needs no conversion is not copied but stays in the file, mapped (see MappedFile), until it is
/// changed. Errors: StateDictError listing every missing, unexpected and misshaped name at once, with the nearest ones;
/// also for a partial load of which nothing matches, and for what the network ties and the file has with different
/// numbers. FormatError for an alias to nothing or in a circle. On an error the network is unchanged.
LoadReport load_state_dict(nn::Module& net, const SafetensorsFile& file, const LoadOptions& options = {});

/// Copies of all parameters and buffers, and back. They keep a network's best moment while training goes on.
/// Errors: StateDictError, before anything is changed, when the copies are of another network.
std::vector<NamedTensor> copy_weights(nn::Module& net);
void restore_weights(nn::Module& net, const std::vector<NamedTensor>& copies);
/// Each parameter and buffer of the network, and its copy. Errors: as restore_weights.
std::vector<std::pair<Tensor, Tensor>> matched_copies(nn::Module& net, const std::vector<NamedTensor>& copies);

}  // namespace tl::inline TL_ABI

#if TL_HEADER_ONLY
#include "tl/io/state_dict.inl"
#endif
