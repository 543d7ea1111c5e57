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
#include "tl/data/idx.inl"
#include "tl/data/image_folder.inl"
#include "tl/data/resize.inl"
#include "tl/data/split.inl"
#include "tl/data/transforms.inl"
#include "tl/io/file.inl"
#include "tl/io/image.inl"
#include "tl/io/inflate.inl"
#include "tl/io/safetensors.inl"
#include "tl/io/state_dict.inl"
#include "tl/nn/conv.inl"
#include "tl/nn/init.inl"
#include "tl/nn/module.inl"
#include "tl/ops/attention.inl"
#include "tl/ops/conv.inl"
#include "tl/ops/dropout.inl"
#include "tl/ops/elementwise.inl"
#include "tl/ops/index.inl"
#include "tl/ops/loss.inl"
#include "tl/ops/matmul.inl"
#include "tl/ops/norm.inl"
#include "tl/ops/pool.inl"
#include "tl/ops/reduce.inl"
#include "tl/ops/softmax.inl"
#include "tl/ops/view.inl"
#include "tl/tensor/print.inl"
#include "tl/tensor/storage.inl"
#include "tl/tensor/tensor.inl"
#include "tl/train/log.inl"
#include "tl/train/metrics.inl"
