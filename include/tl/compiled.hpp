// All definitions, for programs that are built without CMake: compile everything with TL_COMPILED defined, and include this
// header in exactly one file of yours. The other files then compile in seconds.
//
//   g++ -std=c++20 -O2 -DTL_COMPILED -I include main.cpp engine.cpp -pthread     (engine.cpp: #include "tl/compiled.hpp")
//
// With CMake, link tl::compiled instead, which builds the same definitions in parallel.
#pragma once
#if !defined(TL_COMPILED)
#error "tl/compiled.hpp: define TL_COMPILED for every file of the program (-DTL_COMPILED)"
#endif

#include "tl/autograd/engine.inl"
#include "tl/autograd/gradcheck.inl"
#include "tl/core/log.inl"
#include "tl/core/parallel.inl"
#include "tl/cpu/kernels.inl"
#include "tl/io/file.inl"
#include "tl/tensor/print.inl"
#include "tl/tensor/storage.inl"
#include "tl/tensor/tensor.inl"
