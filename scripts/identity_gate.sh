#!/usr/bin/env bash
# Trains identities with three seeds at a time and runs the gate on each exported model:
#   scripts/identity_gate.sh PROGRAM MODEL_FOLDER ORIGINAL OUT_FOLDER PART [TRAIN_OPTION...]
# PART is tuning or held-out; ORIGINAL is for --init-master. Leaves OUT_FOLDER/seed-S (the model) and
# seed-S.PART.txt (every failing answer, then a line for each system turn); prints those lines.
# Exit 1 when a gate is not passed. The part held-out is for a report, asked once.
set -euo pipefail
cd "$(dirname "$0")/.."

program=$1 model=$2 original=$3 out=$4 part=$5
shift 5
mkdir -p "$out"

train() {
  "$program" train --preset identity --model "$model" --init-master "$original" --out "$out/seed-$1" \
    --force --seed "$1" "${@:2}" 2>"$out/seed-$1.train.log"
}
gate() {
  "$program" eval-identity --model "$out/seed-$1" --base "$model" --part "$part" \
    >"$out/seed-$1.$part.txt" 2>"$out/seed-$1.gate.log"
}

# The first run makes the start model's answers, which depend on no seed.
train 0 "$@"
runs=()
for seed in 1 2; do
  cp "$out/seed-0.replay.jsonl" "$out/seed-$seed.replay.jsonl"
  train "$seed" "$@" &
  runs+=($!)
done
for run in "${runs[@]}"; do wait "$run"; done
runs=()
for seed in 0 1 2; do
  gate "$seed" &
  runs+=($!)
done
failed=0
for seed in 0 1 2; do
  if wait "${runs[$seed]}"; then status=passed; else status="not passed" failed=1; fi
  echo "seed $seed: $status"
  grep -E '^(system|perplexity)' "$out/seed-$seed.$part.txt" || cat "$out/seed-$seed.gate.log"
done
exit "$failed"
