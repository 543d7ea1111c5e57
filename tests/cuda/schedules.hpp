// The orders in which every kernel test runs.
#pragma once
#include <array>

#include "emulator/emulator.hpp"

namespace tl::test {

inline constexpr std::array<emulator::Schedule, 5> kSchedules{{
    {emulator::Order::forward, 0},
    {emulator::Order::reverse, 0},
    {emulator::Order::random, 1},
    {emulator::Order::random, 2},
    {emulator::Order::warp_eager, 0},
}};

}  // namespace tl::test
