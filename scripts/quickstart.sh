#!/usr/bin/env bash
# From a bare Debian 12 to an answer: installs what is missing, builds (the preset `cuda` where there
# is an NVIDIA GPU, else `release`), fetches a small real model, converts it to NVFP4 and asks it a
# question. Safe to repeat; what is done is not done again.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf '\033[1m==> %s\033[0m\n' "$*"; }

preset=release
if command -v nvidia-smi >/dev/null && nvidia-smi -L 2>/dev/null | grep -q GPU; then preset=cuda; fi
if [[ $preset == cuda ]]; then scripts/setup.sh --cuda; else scripts/setup.sh; fi
say "building (build/$preset)"
cmake --preset "$preset" -Wno-dev >/dev/null
cmake --build --preset "$preset"
qwen3fp4=build/$preset/qwen3fp4

model=models/smollm2-135m-nvfp4
if [[ ! -f $model/model.dat ]]; then
  gguf=$(scripts/fetch_model.sh)
  say "converting $gguf to NVFP4 ($model)"
  $qwen3fp4 convert "$gguf" "$model" --format nvfp4
fi

prompt='Write one short sentence about UFO and you.'
say "qwen3fp4 generate --prompt '$prompt'"
$qwen3fp4 generate --prompt "$prompt" --timing
