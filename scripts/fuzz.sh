#!/usr/bin/env bash
# Builds the libFuzzer targets of the parsers and runs each for SECONDS: scripts/fuzz.sh [SECONDS=30]
set -euo pipefail
cd "$(dirname "$0")/.."

seconds=${1:-30}
scripts/setup.sh --lint
cmake --preset fuzz -Wno-dev >/dev/null
cmake --build --preset fuzz --target fuzzers
mkdir -p .cache
for target in build/fuzz/bin/*_fuzz; do
  name=$(basename "$target")
  corpus=.cache/fuzz/$name
  mkdir -p "$corpus"
  echo "==> $name for $seconds s"
  "$target" -max_total_time="$seconds" -rss_limit_mb=2048 -timeout=10 -print_final_stats=1 \
    -artifact_prefix=.cache/fuzz/ "$corpus" tests/fuzz/corpus/"$name" 2>&1 | grep -E 'ERROR|SUMMARY|stat::number_of_executed_units|DONE|crash-|oom-|timeout-'
done
