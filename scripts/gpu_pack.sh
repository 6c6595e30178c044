#!/usr/bin/env bash
# Packs build/cuda's program for a GPU machine that has libtorch but not Debian's libraries: one
# build/pack/qwen3fp4.tar.xz, and the quick start's source model beside it in pieces of 40 MB, for
# transfers that are limited in size. There: scripts/gpu_unpack.sh FOLDER.
set -euo pipefail
cd "$(dirname "$0")/.."

pack=build/pack
rm -rf "$pack"
mkdir -p "$pack/lib"
strip -o "$pack/qwen3fp4" build/cuda/qwen3fp4
# All it loads but the C and C++ runtimes and what comes with libtorch.
ldd build/cuda/qwen3fp4 | awk '$2 == "=>" && $3 ~ /^\// {print $3}' |
  grep -vE '/(libc|libm|libdl|librt|libpthread|libstdc\+\+|libgcc_s)\.so|/torch/|/nvidia/|/cuda' |
  xargs -I{} cp -L {} "$pack/lib"
tar -C "$pack" -cJf "$pack/qwen3fp4.tar.xz" qwen3fp4 lib
rm -r build/pack/lib build/pack/qwen3fp4
split -b 40M -d "$(scripts/fetch_model.sh)" "$pack/model.gguf."
du -h "$pack"/*
