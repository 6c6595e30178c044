#!/usr/bin/env bash
# From a bare Debian 12 to an answer: installs what is missing, builds, fetches a small real model,
# converts it to NVFP4 and asks it a question. Safe to repeat; what is done is not done again.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf '\033[1m==> %s\033[0m\n' "$*"; }

scripts/setup.sh
say "building (build/release)"
cmake --preset release -Wno-dev >/dev/null
cmake --build --preset release

model=models/smollm2-135m-nvfp4
if [[ ! -f $model/model.dat ]]; then
  gguf=$(scripts/fetch_model.sh)
  say "converting $gguf to NVFP4 ($model)"
  build/release/qwen3fp4 convert "$gguf" "$model" --format nvfp4
fi

prompt='Write one short sentence about UFO and you.'
say "qwen3fp4 generate --prompt '$prompt'"
build/release/qwen3fp4 generate --prompt "$prompt" --timing
