#!/usr/bin/env bash
# Formatting, the direction of includes, shell scripts, and the clang-tidy checks that .clang-tidy
# names. Installs its tools when they are missing.
set -euo pipefail
cd "$(dirname "$0")/.."

scripts/setup.sh --lint

mapfile -t all < <(git ls-files '*.h' '*.cpp' '*.cu' '*.cuh')
clang-format --dry-run -Werror "${all[@]}"
echo "clang-format: ${#all[@]} files"

python3 tools/check_layers.py
mapfile -t shells < <(git ls-files '*.sh' .ci/run)
shellcheck "${shells[@]}"
echo "shellcheck: ${#shells[@]} files"

# A build folder that is only configured: clang cannot read g++'s precompiled headers.
cmake -S . -B build/lint -G Ninja -Wno-dev -DQF_TESTS=OFF -DQF_USE_CCACHE=OFF \
  -DCMAKE_DISABLE_PRECOMPILE_HEADERS=ON >/dev/null
mapfile -t sources < <(git ls-files 'src/*.cpp')
printf '%s\0' "${sources[@]}" | xargs -0 -n 4 -P "$(nproc)" \
  clang-tidy --quiet -p build/lint --extra-arg=-Wno-unknown-warning-option
echo "clang-tidy: ${#sources[@]} files"
