#!/usr/bin/env bash
# Formatting, the direction of includes, shell scripts, and the clang-tidy checks that .clang-tidy
# names. Installs its tools when they are missing. `--since COMMIT` leaves clang-tidy to the sources
# that have changed since (it takes ten seconds a file).
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
# Of the sources that need CUDA's headers this build has none.
mapfile -t sources < <(sed -nE 's/.*"file": "(.*\.cpp)".*/\1/p' build/lint/compile_commands.json | sort -u)
if [[ ${1:-} == --since && -n ${2:-} ]]; then
  mapfile -t sources < <(git diff --name-only "$2" -- 'src/*.cpp' | sed "s|^|$PWD/|" |
    sort | comm -12 - <(printf '%s\n' "${sources[@]}"))
  echo "clang-tidy: only what changed since $(git log -1 --format='%h, %cs' "$2")"
fi
printf '%s\0' "${sources[@]}" | xargs -0 -n 4 -P "$(nproc)" \
  clang-tidy --quiet -p build/lint --extra-arg=-Wno-unknown-warning-option
echo "clang-tidy: ${#sources[@]} files"
