// Freezing by name: one durable state that gradients, optimizers, BatchNorm and dropout obey.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "tl/nn/module.hpp"

namespace tl::inline TL_ABI {

/// Freezes the parameters that match a glob (see core/glob.hpp), by their own name or that of a module around them, and
/// the modules that match.
///
/// Frozen means: no gradient (one already collected is dropped), no optimizer state, no weight decay; BatchNorm
/// normalises with its running statistics, which stay; dropout is off; nothing is kept for backward below the lowest
/// trainable layer. It lasts through train() and through saving and loading. A module all of whose own parameters are
/// frozen is frozen. Errors: UsageError if nothing matches, with the nearest names. Returns the number of parameters
/// that matched.
int64_t freeze(nn::Module& net, std::string_view glob);

/// The reverse of freeze.
int64_t unfreeze(nn::Module& net, std::string_view glob);

/// Freezes everything but what matches.
void freeze_all_but(nn::Module& net, std::string_view glob);

/// Freezes every BatchNorm, statistics and scale: batches of a few pictures estimate both badly, and the pretrained
/// ones are good. Returns how many there are.
int64_t freeze_batch_norms(nn::Module& net);

/// Normalisation-only tuning: unfreezes scale and shift of every BatchNorm and LayerNorm, while BatchNorm's statistics
/// stay those that it has. After freeze_all_but(net, head) norms and head alone learn. Returns the number of tensors.
/// Errors: UsageError for a network without norms. Paper: Frankle et al., "Training BatchNorm and only BatchNorm",
/// 2021.
int64_t unfreeze_norms(nn::Module& net);

/// BitFit: unfreezes every bias, that of norms (BatchNorm's shift) among them, while statistics stay. After
/// freeze_all_but(net, head) biases and head alone learn. Returns the number of tensors.
/// Errors: UsageError for a network without biases. Paper: Ben Zaken et al., "BitFit", 2022.
int64_t unfreeze_biases(nn::Module& net);

/// Names of all frozen parameters and modules, for saving.
std::vector<std::string> frozen_names(nn::Module& net);

/// Restores what frozen_names gave: exactly these are frozen afterwards. Names that the network has not are an error,
/// before anything is changed.
void set_frozen_names(nn::Module& net, const std::vector<std::string>& names);

}  // namespace tl::inline TL_ABI

#if TL_HEADER_ONLY
#include "tl/nn/freeze.inl"
#endif
