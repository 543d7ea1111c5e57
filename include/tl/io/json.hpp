// The JSON library of tl's definitions.
#pragma once
#include <nlohmann/json.hpp>

#include "tl/core/config.hpp"

namespace tl::inline TL_ABI {
namespace detail {

/// Keeps keys in the order in which they came. One kind for all of tl: a second one would be compiled again in each
/// program.
using Json = nlohmann::ordered_json;

}  // namespace detail
}  // namespace tl::inline TL_ABI
