#!/bin/sh
# Measures everything beside all peers, writes bench/results/<machine>.json and the README's tables from it.
#
#   sh bench/run.sh [BUILD_FOLDER] [PYTHON_WITH_PEERS] [FILTER]
#
# Each case is a run of its own, so that a cut run goes on where it stopped if TL_BENCH_RESULTS keeps its parts. Further:
#   TL_BENCH_PREFIX    a command to put before each run, such as "taskset -c 0,1"
#   TL_BENCH_PROGRAMS  only these, such as "inference training"
#   TL_BENCH_PRECISION f32 (default) or bf16, which gemm, inference, training, frozen_step and tuning know
#   TL_BENCH_PICTURES, TL_BENCH_WEIGHTS   hymenoptera_data and EfficientNet-Lite0's file, for finetune and cached_training
#   TL_BENCH_IDX       a folder with IDX files such as Fashion-MNIST, for cached_epochs
set -eu
cd "$(dirname "$0")/.."
build=${1:-build/release}
python=${2:-python3}
filter=${3:-}
precision=${TL_BENCH_PRECISION:-f32}
parts=${TL_BENCH_RESULTS:-$(mktemp -d)}
mkdir -p "$parts"

for program in ${TL_BENCH_PROGRAMS:-peak gemm conv layers inference training frozen_step tuning cached_epochs cached_epochs_idx \
  cached_training startup loader finetune}; do
  case $program in
    finetune)
      [ -n "${TL_BENCH_PICTURES:-}" ] && [ -n "${TL_BENCH_WEIGHTS:-}" ] || continue
      set -- --pictures "$TL_BENCH_PICTURES" --weights "$TL_BENCH_WEIGHTS"
      ;;
    tuning)
      program=training
      set -- --tuning full,recompute,lora,lora_attention,bottleneck,norms,biases,head
      ;;
    cached_training)
      [ -n "${TL_BENCH_PICTURES:-}" ] && [ -n "${TL_BENCH_WEIGHTS:-}" ] || continue
      program=cached_epochs
      set -- --trainings "$TL_BENCH_PICTURES" --weights "$TL_BENCH_WEIGHTS" --rounds 1
      ;;
    cached_epochs)
      set --
      [ -z "${TL_BENCH_PICTURES:-}" ] || set -- --pictures "$TL_BENCH_PICTURES/train"
      ;;
    cached_epochs_idx)
      [ -n "${TL_BENCH_IDX:-}" ] || continue
      program=cached_epochs
      set -- --idx "$TL_BENCH_IDX" --count 1000
      ;;
    loader)
      set --
      [ -z "${TL_BENCH_PICTURES:-}" ] || set -- --pictures "$TL_BENCH_PICTURES/train"
      ;;
    *) set -- ;;
  esac
  "$build/bench/bench_$program" --precision "$precision" --list --filter "$filter" "$@" | grep -v '^{' | while read -r one; do
    file=$parts/$program-$precision-$(printf '%s' "$one" | tr -cs 'A-Za-z0-9_' '-').json
    [ -s "$file" ] && continue
    ${TL_BENCH_PREFIX:-} "$build/bench/bench_$program" --python "$python" --precision "$precision" \
      --filter "$one" --json "$file" "$@" </dev/null |
      grep -v '^{' || true
  done
done
python3 bench/report.py --merge "$parts"/*.json
