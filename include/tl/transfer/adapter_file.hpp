// Files that hold what parameter-efficient tuning trained, and nothing else.
#pragma once
#include <string>

#include "tl/io/state_dict.hpp"
#include "tl/transfer/adapters.hpp"

namespace tl::inline TL_ABI {

/// The metadata's "format" of such files.
constexpr const char* kAdapterFormat = "tl-adapters";

/// Writes all adapters and whatever else is trainable (head, norms, biases), atomically.
///
/// The metadata has, besides `more`: "format", kAdapterFormat; "adapters", their kinds, options and hosts as JSON;
/// "base", a hash of every weight and statistic that is not in the file; and "frozen", as in model files. Statistics of
/// norms that move in training are written too.
/// Errors: UsageError when nothing is trainable, and for merged adapters; IoError.
void save_adapters(const std::string& path, nn::Module& net, Metadata more = {});

/// Puts what save_adapters wrote on a network like the one that it was trained on, with a head of the same size:
/// adapters, values, and what is frozen.
/// Errors: IoError, FormatError for files that are damaged or none of these; StateDictError when the network's weights
/// are not those that the adapters were trained on, or it lacks a host or a name of the file, or shapes differ;
/// UsageError when the network carries adapters. After an error the network is as it was.
void load_adapters(nn::Module& net, const std::string& path);

/// The entry "adapters" of a file's metadata for this network: empty without adapters, and when all are merged.
std::string describe_adapters(nn::Module& net);
/// Puts adapters on as described, of the shapes that the file's tensors have, for their values to be loaded.
/// Errors: FormatError; StateDictError for a host that the network has not; then nothing was changed.
void attach_adapters(nn::Module& net, const SafetensorsFile& file);

}  // namespace tl::inline TL_ABI

#if TL_HEADER_ONLY
#include "tl/transfer/adapter_file.inl"
#endif
