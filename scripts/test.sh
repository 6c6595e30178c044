#!/usr/bin/env bash
# Installs what is missing, builds with sanitizers and warnings as errors, and runs every test that
# needs no GPU (those are scripts/gpu_check.sh). Safe to repeat.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf '\033[1m==> %s\033[0m\n' "$*"; }

scripts/setup.sh
scripts/fetch_model.sh >/dev/null
say "building (build/dev)"
cmake --preset dev -Wno-dev >/dev/null
cmake --build --preset dev
say "testing"
ctest --preset dev
