#!/usr/bin/env bash
# On the GPU machine, with what gpu_pack.sh made in build/pack: `scripts/gpu_unpack.sh FOLDER` leaves
# FOLDER/qwen3fp4 (a wrapper that finds the Python package torch's libraries) and, once all pieces
# of the model have arrived, FOLDER/model.gguf. Repeat for pieces that come later.
set -euo pipefail
cd "$(dirname "$0")/.."

folder=$1
mkdir -p "$folder"
for piece in build/pack/model.gguf.*; do
  if [[ -f $piece ]]; then cp "$piece" "$folder"; fi
done
if [[ -f build/pack/qwen3fp4.tar.xz ]]; then
  tar -C "$folder" -xJf build/pack/qwen3fp4.tar.xz
  mv "$folder/qwen3fp4" "$folder/qwen3fp4.bin"
  torch=$(python3 -c 'import torch, os; print(os.path.dirname(torch.__file__))')
  paths=$folder/lib:$torch/lib
  for directory in "$torch"/../nvidia/*/lib; do paths+=:$directory; done
  printf '#!/bin/sh\nLD_LIBRARY_PATH=%s exec %s/qwen3fp4.bin "$@"\n' "$paths" "$folder" >"$folder/qwen3fp4"
  chmod +x "$folder/qwen3fp4"
fi
if [[ -f $folder/model.gguf.02 ]]; then cat "$folder"/model.gguf.?? >"$folder/model.gguf"; fi
ls -la "$folder"
