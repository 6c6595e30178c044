#!/usr/bin/env bash
# On a machine with a GPU and nvcc: builds the kernels (no libtorch needed), runs every GPU test,
# runs them again under compute-sanitizer, and prints the timing rows. Needs no network.
set -euo pipefail
cd "$(dirname "$0")/.."

build=${1:-build/gpu}
arch=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader | head -n 1 | tr -d .)
nvidia-smi --query-gpu=name,driver_version --format=csv,noheader
cmake -S cmake/gpu_check -B "$build" -DCMAKE_BUILD_TYPE=Release -DCMAKE_CUDA_ARCHITECTURES="$arch" >/dev/null
cmake --build "$build" -j "$(nproc)"
"$build"/cuda_test
for tool in memcheck racecheck synccheck; do
  echo "== compute-sanitizer $tool"
  compute-sanitizer --tool "$tool" --error-exitcode 1 "$build"/cuda_test --gtest_filter=-*Speed | tail -n 3
done
