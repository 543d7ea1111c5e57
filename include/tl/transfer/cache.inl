// Definitions of transfer/cache.hpp.
#pragma once
#include <algorithm>
#include <cstring>
#include <filesystem>
#include <numeric>
#include <optional>

#include "tl/core/cpu_features.hpp"
#include "tl/core/hash.hpp"
#include "tl/core/log.hpp"
#include "tl/core/precision.hpp"
#include "tl/io/safetensors.hpp"
#include "tl/ops/elementwise.hpp"
#include "tl/transfer/cache.hpp"

namespace tl::inline TL_ABI {
namespace detail {

/// What a training pass through a module would change or decide by chance; empty if nothing.
TL_INLINE std::string living_part(const nn::NamedModule& named) {
  nn::Module& module = *named.module;
  const std::string path = named.name.empty() ? "" : named.name + ".";
  const auto members = module.members();
  for (const nn::Member& member : members)
    if (member.parameter && !member.parameter->frozen())
      return text(path, member.name, " learns. Hint: freeze(net, \"", path, member.name, "\").");
  if (module.frozen()) return {};
  const bool keeps = std::any_of(members.begin(), members.end(), [](const nn::Member& m) { return m.buffer; });
  if (keeps)
    return text(named.name, ", ", module.describe(),
                ", renews its statistics in training, although its parameters are frozen. "
                "Hint: freeze_batch_norms(net), or freeze(net, \"",
                named.name, "\").");
  if (module.is_random())
    return text(named.name, ", ", module.describe(), ", draws random numbers in training. Hint: freeze(net, \"",
                named.name, "\").");
  return {};
}

TL_INLINE FrozenPrefix frozen_prefix(const std::vector<std::vector<nn::NamedModule>>& stages) {
  FrozenPrefix out;
  for (; out.stages + 1 < stages.size(); ++out.stages)
    for (const nn::NamedModule& module : stages[out.stages]) {
      out.end = living_part(module);
      if (!out.end.empty()) return out;
    }
  out.end = "the last stage, which is never kept.";
  return out;
}

}  // namespace detail

TL_INLINE FrozenPrefix frozen_prefix(nn::Staged& net) { return detail::frozen_prefix(nn::modules_by_stage(net)); }

// ---- the shared part ----

TL_INLINE FeatureCache::FeatureCache(nn::Staged& net, FeatureCacheOptions options)
    : net_(net), options_(std::move(options)) {
  require<UsageError>(options_.dtype == DType::f32 || options_.dtype == DType::bf16,
                      "FeatureCache: dtype must be f32 or bf16, got ", options_.dtype);
  require<UsageError>(options_.batch >= 1 && options_.byte_budget >= 0 && options_.stages >= 1,
                      "FeatureCache: batch and stages must be at least 1, byte_budget at least 0; got ", options_.batch,
                      ", ", options_.stages, " and ", options_.byte_budget);
  require<UsageError>(options_.storage != CacheStorage::disk || !options_.folder.empty(),
                      "FeatureCache: on disk it needs a folder");
  const FrozenPrefix prefix = frozen_prefix(net);
  const size_t wanted = options_.stages == std::numeric_limits<size_t>::max() ? 1 : options_.stages;
  require<UsageError>(prefix.stages >= wanted, "FeatureCache: what is cached must be frozen, but in stage ",
                      prefix.stages, " of ", net.describe(), " ", prefix.end);
  refresh();
}

TL_INLINE std::function<Tensor(const Tensor&)> FeatureCache::forward() {
  return [this](const Tensor& x) { return net_.run_stages(in_precision(x), stages_, net_.stage_count()); };
}

/// Looks whether what is kept is still what the network would give. Numbers that nobody asked to write are not read.
TL_INLINE void FeatureCache::refresh() {
  const auto modules = nn::modules_by_stage(net_);
  const size_t stages = std::min(detail::frozen_prefix(modules).stages, options_.stages);
  std::vector<uint64_t> state{stages, static_cast<uint64_t>(precision()), static_cast<uint64_t>(active_isa())};
  for (size_t stage = 0; stage < stages; ++stage)
    for (const nn::NamedModule& module : modules[stage]) {
      state.push_back(Hash().add(module.name).add(module.module->describe()).value());
      for (const nn::Member& member : module.module->members())
        if (member.parameter || member.buffer) {
          const Tensor& value = member.parameter ? member.parameter->value() : member.buffer->value();
          state.push_back(value.storage()->version());
        }
    }
  if (state == state_) return;
  state_ = std::move(state);
  stages_ = stages;
  const uint64_t hash = prefix_hash(modules);
  if (generation_ > 0 && hash == hash_) return;
  hash_ = hash;
  ++generation_;
  bytes_ = 0;
  rows_.clear();
}

TL_INLINE uint64_t FeatureCache::prefix_hash(const std::vector<std::vector<nn::NamedModule>>& modules) const {
  Hash hash;
  hash.add(TL_VERSION_STRING).add(name_of(active_isa())).add(name_of(precision())).add(options_.batch).add(stages_);
  for (size_t stage = 0; stage < stages_; ++stage)
    for (const nn::NamedModule& module : modules[stage]) {
      hash.add(module.name).add(module.module->describe());
      for (const nn::Member& member : module.module->members()) {
        if (!member.parameter && !member.buffer) continue;
        const Tensor value = (member.parameter ? member.parameter->value() : member.buffer->value()).to(kCpu);
        hash.add(member.name).add(text(value.dtype(), value.shape())).add(value.raw_data(), value.bytes());
      }
    }
  return hash.value();
}

TL_INLINE Device FeatureCache::device() const {
  const auto parameters = nn::named_parameters(net_);
  return parameters.empty() ? kCpu : parameters[0].parameter->value().device();
}

TL_INLINE Tensor FeatureCache::prefix(const Tensor& x) { return net_.run_stages(in_precision(x), 0, stages_); }

// ---- a source ----

/// Results of the prefix for chosen places of the view, one after another, computed some at a time.
class CachedSource::Computed {
 public:
  Computed(CachedSource& source, std::vector<int64_t> places, int64_t variant)
      : source_(source),
        places_(places),
        pictures_(source.loader_.pass(std::move(places), source.cache_.options().batch, variant)),
        prefix_([cache = &source.cache_](const Tensor& x) { return cache->prefix(x); }, {.lenient = true}) {}

  /// The row of the next place, valid until the next call; null if its picture could not be read.
  const std::byte* next() {
    if (at_ % static_cast<size_t>(source_.cache_.options().batch) == 0) {
      pictures_->next(batch_);
      if (!batch_.indices.empty()) rows_ = run(batch_.x);
      row_ = 0;
    }
    const auto place = static_cast<size_t>(places_[at_++]);
    if (row_ == batch_.indices.size() || batch_.indices[row_] != source_.loader_.view().indices[place]) return nullptr;
    return static_cast<const std::byte*>(rows_.raw_data()) + row_++ * source_.row_bytes_;
  }

 private:
  /// Rows for pictures that may be fewer than a batch.
  Tensor run(Tensor x) {
    const FeatureCache& cache = source_.cache_;
    const nn::ModeScope evaluation_mode(cache.net_, false);
    const NoGrad no_grad;
    if (x.size(0) < cache.options().batch) {
      Tensor filled = Tensor::zeros(x.shape().with(0, cache.options().batch), x.dtype());
      std::memcpy(filled.raw_mutable_data(), x.raw_data(), x.bytes());
      x = filled;
    }
    return prefix_(x.to(cache.device())).to(kCpu).to(cache.options().dtype);
  }

  CachedSource& source_;
  std::vector<int64_t> places_;
  std::unique_ptr<BatchStream> pictures_;
  Capture prefix_;
  Batch batch_;
  Tensor rows_;
  size_t at_ = 0, row_ = 0;
};

class CachedSource::Stream final : public BatchStream {
 public:
  Stream(CachedSource& source, std::shared_ptr<const Rows> rows, int64_t variant, int64_t epoch, int64_t first)
      : source_(source),
        rows_(std::move(rows)),
        generation_(source.generation_),
        next_(first),
        order_(epoch_order(source.samples(), source.options_.shuffle, source.options_.seed, epoch)) {
    const int64_t batch = source.options_.batch, end = std::min(source.batches() * batch, source.samples());
    std::vector<int64_t> missing;
    for (int64_t i = first * batch; i < end; ++i)
      if (order_[static_cast<size_t>(i)] >= source.kept_) missing.push_back(order_[static_cast<size_t>(i)]);
    if (!missing.empty()) computed_.emplace(source, std::move(missing), variant);
  }

  bool next(Batch& batch) override {
    if (next_ >= source_.batches()) return false;
    require<UsageError>(generation_ == source_.cache_.generation_,
                        "CachedSource: the frozen part of the network changed during a pass. "
                        "Hint: freeze, unfreeze and load between epochs.");
    const int64_t size = source_.options_.batch, begin = next_++ * size,
                  end = std::min(begin + size, source_.samples());
    const View& view = source_.loader_.view();
    Tensor x = Tensor::empty(source_.row_.with(0, end - begin), source_.cache_.options().dtype);
    auto* to = static_cast<std::byte*>(x.raw_mutable_data());
    std::vector<int32_t> labels;
    batch.indices.clear();
    for (int64_t i = begin; i < end; ++i) {
      const int64_t place = order_[static_cast<size_t>(i)];
      const std::byte* row = row_of(place);
      if (!row) continue;
      std::memcpy(to, row, source_.row_bytes_);
      to += source_.row_bytes_;
      const int64_t index = view.indices[static_cast<size_t>(place)];
      labels.push_back(static_cast<int32_t>(view.data->label(index)));
      batch.indices.push_back(index);
    }
    const auto count = static_cast<int64_t>(labels.size());
    batch.x = Tensor::view_of(x.storage(), 0, x.shape().with(0, count), x.dtype()).to(DType::f32);
    batch.y = Tensor::from(labels, {count});
    return true;
  }

 private:
  const std::byte* row_of(int64_t place) {
    if (place >= source_.kept_) return computed_->next();
    if (!rows_->present[static_cast<size_t>(place)]) return nullptr;
    return static_cast<const std::byte*>(rows_->features.raw_data()) + static_cast<size_t>(place) * source_.row_bytes_;
  }

  CachedSource& source_;
  std::shared_ptr<const Rows> rows_;
  int64_t generation_, next_;
  std::vector<int64_t> order_;
  std::optional<Computed> computed_;
};

TL_INLINE CachedSource::CachedSource(FeatureCache& cache, View view, const LoaderOptions& options, int64_t variants)
    : cache_(cache), loader_(std::move(view), options), options_(options), variants_(variants) {
  constexpr int64_t kMostVariants = 1 << 20;  // bytes and names of files are counted with them
  require<UsageError>(variants >= 1 && variants <= kMostVariants, "CachedSource: variants must be from 1 to ",
                      kMostVariants, ", got ", variants);
  const Pipeline& pipeline = loader_.view().pipeline;
  require<UsageError>(
      cache.options().storage != CacheStorage::disk || !pipeline.has_own_steps() || !cache.options().own_steps.empty(),
      "CachedSource: files of later runs are found by what the pictures went through, and the transforms "
      "have steps of your own. Hint: name them in FeatureCacheOptions::own_steps.");
  if (!pipeline.is_random()) variants_ = 1;
}

TL_INLINE CachedSource::~CachedSource() {
  if (generation_ == cache_.generation_) cache_.bytes_ -= kept_ * variants_ * static_cast<int64_t>(row_bytes_);
  std::erase_if(cache_.rows_, [this](const auto& entry) { return entry.first.first == this; });
}

TL_INLINE std::unique_ptr<BatchStream> CachedSource::epoch(int64_t epoch, int64_t first) {
  cache_.refresh();
  if (cache_.stages() == 0) return loader_.epoch(epoch, first);
  plan();
  const int64_t variant = epoch % variants_;
  return std::make_unique<Stream>(*this, rows_of(variant), variant, epoch, first);
}

TL_INLINE void CachedSource::fill(int64_t epoch) {
  cache_.refresh();
  if (cache_.stages() == 0) return;
  plan();
  rows_of(epoch % variants_);
}

/// Finds out how large a row is, and how many there is room for.
TL_INLINE void CachedSource::plan() {
  if (generation_ == cache_.generation_) return;
  const Preprocess& input = loader_.view().pipeline.preprocess();
  {
    const nn::ModeScope evaluation_mode(cache_.net_, false);
    const NoGrad no_grad;
    row_ = cache_.prefix(Tensor::zeros({1, input.size, input.size, input.channels()}).to(cache_.device())).shape();
  }
  row_bytes_ = static_cast<size_t>(row_.numel()) * size_of(cache_.options().dtype);
  const auto each = static_cast<int64_t>(row_bytes_) * variants_;
  const FeatureCacheOptions& options = cache_.options();
  const int64_t room = options.storage == CacheStorage::none ? 0 : (options.byte_budget - cache_.bytes_) / each;
  kept_ = std::clamp<int64_t>(room, 0, samples());
  if (kept_ < samples() && options.storage != CacheStorage::none)
    warn(text("CachedSource: there is room for ", kept_, " of ", samples(),
              " samples, the others are computed in each "
              "epoch; all need ",
              each * samples(),
              " bytes. Hint: a larger byte_budget, bf16, fewer variants, or "
              "a cut further up."));
  cache_.bytes_ += kept_ * each;
  generation_ = cache_.generation_;
}

TL_INLINE std::shared_ptr<const FeatureCache::Rows> CachedSource::rows_of(int64_t variant) {
  auto& rows = cache_.rows_[{this, variant}];
  if (!rows && kept_ > 0)
    rows = std::make_shared<const Rows>(cache_.options().storage == CacheStorage::disk ? on_disk(variant)
                                                                                       : in_memory(variant));
  return rows;
}

/// Computes what is to be kept, in the view's order; `take` gets null for a picture that cannot be read.
TL_INLINE void CachedSource::compute(int64_t variant, FunctionRef<void(int64_t place, const std::byte* row)> take) {
  std::vector<int64_t> places(static_cast<size_t>(kept_));
  std::iota(places.begin(), places.end(), 0);
  Computed computed(*this, std::move(places), variant);
  for (int64_t place = 0; place < kept_; ++place) {
    take(place, computed.next());
    const int64_t done = place + 1;
    if (cache_.options().progress && (done % cache_.options().batch == 0 || done == kept_))
      cache_.options().progress(done, kept_);
  }
}

TL_INLINE FeatureCache::Rows CachedSource::in_memory(int64_t variant) {
  Rows rows{Tensor::empty(row_.with(0, kept_), cache_.options().dtype),
            std::vector<uint8_t>(static_cast<size_t>(kept_))};
  auto* to = static_cast<std::byte*>(rows.features.raw_mutable_data());
  compute(variant, [&](int64_t place, const std::byte* row) {
    if (!row) return;
    std::memcpy(to + static_cast<size_t>(place) * row_bytes_, row, row_bytes_);
    rows.present[static_cast<size_t>(place)] = 1;
  });
  return rows;
}

// ---- files ----
//
// One safetensors file for each source and variant, named by the hash of all that its numbers depend on:
// "features" [kept, ...], "present" [kept], and "checksum", the hash of both. The metadata's "key" repeats the name.

TL_INLINE std::string CachedSource::key_of(int64_t variant) const {
  const View& view = loader_.view();
  Hash hash;
  hash.add(cache_.hash_).add(name_of(cache_.options().dtype)).add(view.pipeline.fingerprint());
  hash.add(cache_.options().own_steps);
  const bool random = view.pipeline.is_random();
  if (random) hash.add(options_.seed).add(variant);
  for (int64_t place = 0; place < kept_; ++place) {
    const int64_t index = view.indices[static_cast<size_t>(place)];
    hash.add(view.data->fingerprint(index));
    if (random) hash.add(index);
  }
  return to_hex(hash.value());
}

TL_INLINE FeatureCache::Rows CachedSource::on_disk(int64_t variant) {
  const std::filesystem::path folder = cache_.options().folder;
  std::error_code failed;
  std::filesystem::create_directories(folder, failed);
  require<IoError>(!failed, "cannot make the folder ", folder.string(), ": ", failed.message());
  const std::string key = key_of(variant), path = (folder / (key + ".safetensors")).string();
  if (std::filesystem::exists(path)) try {
      return read(path, key);
    } catch (const Error& error) {
      warn(text("made anew: ", error.what()));
    }
  write(path, key, variant);
  return read(path, key);
}

TL_INLINE FeatureCache::Rows CachedSource::read(const std::string& path, const std::string& key) const {
  const SafetensorsFile file(path);
  const auto check = [&](bool good, std::string_view what) {
    if (!good) throw FormatError(path, "feature cache", 0, std::string(what));
  };
  const auto said = file.metadata().find("key");
  check(said != file.metadata().end() && said->second == key, "not the file that its name says");
  for (const char* name : {"features", "present", "checksum"}) check(file.contains(name), "incomplete");
  const Tensor features = file.tensor("features"), present = file.tensor("present"), checksum = file.tensor("checksum");
  check(features.dtype() == cache_.options().dtype && features.shape() == row_.with(0, kept_) &&
            present.dtype() == DType::u8 && present.shape() == Shape{kept_} && checksum.dtype() == DType::i64 &&
            checksum.numel() == 1,
        "tensors of other types or shapes");
  const uint64_t hash =
      Hash().add(features.raw_data(), features.bytes()).add(present.raw_data(), present.bytes()).value();
  check(hash == static_cast<uint64_t>(checksum.data<int64_t>()[0]), "damaged: the checksum is another one");
  const auto flags = present.values<uint8_t>();
  return {features, {flags.begin(), flags.end()}};
}

TL_INLINE void CachedSource::write(const std::string& path, const std::string& key, int64_t variant) {
  const std::vector<PlannedTensor> tensors{{"features", cache_.options().dtype, row_.with(0, kept_)},
                                           {"present", DType::u8, {kept_}},
                                           {"checksum", DType::i64, {1}}};
  write_safetensors(path, tensors, {{"key", key}}, [&](FileWriter& file) {
    Hash hash;
    const std::vector<std::byte> nothing(row_bytes_);
    std::vector<uint8_t> present;
    compute(variant, [&](int64_t, const std::byte* row) {
      present.push_back(row ? 1 : 0);
      hash.add(row ? row : nothing.data(), row_bytes_);
      file.write(row ? row : nothing.data(), row_bytes_);
    });
    const uint64_t sum = hash.add(present.data(), present.size()).value();
    file.write(present.data(), present.size());
    file.write(&sum, sizeof sum);
  });
}

}  // namespace tl::inline TL_ABI
