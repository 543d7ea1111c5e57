// Where a tensor lives.
#pragma once
#include <cstdint>
#include <string>

#include "tl/core/config.hpp"

namespace tl {

enum class DeviceType : uint8_t { cpu, cuda };

struct Device {
  DeviceType type = DeviceType::cpu;
  int index = 0;

  constexpr bool is_cpu() const { return type == DeviceType::cpu; }
  constexpr bool is_cuda() const { return type == DeviceType::cuda; }
  friend constexpr bool operator==(Device, Device) = default;
};

inline constexpr Device kCpu{};
inline constexpr Device kCuda{DeviceType::cuda, 0};

inline void append_text(std::string& out, Device device) {
  out += device.is_cpu() ? "cpu" : "cuda:" + std::to_string(device.index);
}

}  // namespace tl
