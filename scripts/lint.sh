#!/usr/bin/env bash
# Formatting, the clang-tidy checks that .clang-tidy names, and the direction of includes. Needs a
# configured build/dev (scripts/test.sh). Installs its tools when they are missing.
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

mapfile -t sources < <(git ls-files 'src/*.cpp')
printf '%s\0' "${sources[@]}" | xargs -0 -n 4 -P "$(nproc)" \
  clang-tidy --quiet -p build/dev --extra-arg=-Wno-unknown-warning-option 2> >(grep -vE 'warnings? generated|Suppressed|^Use -header-filter' >&2)
echo "clang-tidy: ${#sources[@]} files"
