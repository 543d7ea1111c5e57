// Counter-based random numbers: the same stream on every device, for any number of threads.
#pragma once
#include <utility>
#include <cmath>
#include <cstdint>

#include "tl/core/config.hpp"

namespace tl {

/// Philox-4x32-10: four random words from a key and a counter, without state.
/// Paper: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
struct Philox {
  struct Words {
    uint32_t w[4];
  };

  /// The words at position `counter` of stream `stream` under `seed`.
  TL_HD static Words at(uint64_t seed, uint64_t stream, uint64_t counter) {
    uint32_t k0 = static_cast<uint32_t>(seed), k1 = static_cast<uint32_t>(seed >> 32);
    uint32_t c0 = static_cast<uint32_t>(counter), c1 = static_cast<uint32_t>(counter >> 32);
    uint32_t c2 = static_cast<uint32_t>(stream), c3 = static_cast<uint32_t>(stream >> 32);
    for (int round = 0; round < 10; ++round) {
      const uint64_t p0 = uint64_t{0xD2511F53u} * c0, p1 = uint64_t{0xCD9E8D57u} * c2;
      const uint32_t n0 = static_cast<uint32_t>(p1 >> 32) ^ c1 ^ k0, n2 = static_cast<uint32_t>(p0 >> 32) ^ c3 ^ k1;
      c0 = n0, c1 = static_cast<uint32_t>(p1), c2 = n2, c3 = static_cast<uint32_t>(p0);
      k0 += 0x9E3779B9u, k1 += 0xBB67AE85u;
    }
    return {{c0, c1, c2, c3}};
  }

  /// A word as a number in [0, 1), 24 bits.
  TL_HD static float uniform(uint32_t word) { return static_cast<float>(word >> 8) * 0x1p-24f; }
};

/// A sequence of random numbers that can be copied, saved (two words) and continued.
class Generator {
 public:
  struct State {
    uint64_t seed = 0, position = 0;
    friend bool operator==(State, State) = default;
  };

  explicit Generator(uint64_t seed = 0, uint64_t stream = 0) : state_{seed, 0}, stream_(stream) {}

  State state() const { return state_; }
  void set_state(State state) { state_ = state; }

  /// Takes a fresh counter for a kernel that draws by itself, such as dropout.
  uint64_t take() { return state_.position++; }
  uint64_t seed() const { return state_.seed; }

  uint32_t word() { return Philox::at(state_.seed, stream_, state_.position++).w[0]; }

  /// Uniform in [0, 1).
  double uniform() {
    const auto words = Philox::at(state_.seed, stream_, state_.position++);
    return static_cast<double>((uint64_t{words.w[0]} << 21) ^ (words.w[1] >> 11)) * 0x1p-53;
  }
  double uniform(double low, double high) { return low + (high - low) * uniform(); }

  /// Uniform in {0, ..., n - 1}, n > 0.
  int64_t below(int64_t n) {
    const auto words = Philox::at(state_.seed, stream_, state_.position++);
    const uint64_t wide = (uint64_t{words.w[0]} << 32) | words.w[1];
    return static_cast<int64_t>((static_cast<unsigned __int128>(wide) * static_cast<uint64_t>(n)) >> 64);
  }

  /// Normal with mean 0 and deviation 1 (Box and Muller).
  double normal() {
    const auto words = Philox::at(state_.seed, stream_, state_.position++);
    const double u = (static_cast<double>(words.w[0]) + 1.0) * 0x1p-32, v = static_cast<double>(words.w[1]) * 0x1p-32;
    return std::sqrt(-2.0 * std::log(u)) * std::cos(6.283185307179586 * v);
  }

  /// A permutation of the elements (Fisher and Yates).
  template <class Container>
  void shuffle(Container& items) {
    for (auto i = static_cast<int64_t>(items.size()); i > 1; --i)
      std::swap(items[static_cast<size_t>(i - 1)], items[static_cast<size_t>(below(i))]);
  }

 private:
  State state_;
  uint64_t stream_;
};

}  // namespace tl
