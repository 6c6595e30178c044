#!/usr/bin/env bash
# Every path of a program through a model, against the reference (`ab-check`): one line each, and
# exit code 1 when one is out of bounds. `scripts/check_paths.sh PROGRAM MODEL [BACKEND...]`
set -euo pipefail
program=$1 model=$2
shift 2
(($#)) || set -- reference cpu
failed=0
for backend in "$@"; do
  dtypes=('' ',dtype=bf16')
  [[ $backend == cuda ]] && dtypes+=(',dtype=fp16')
  for schedule in '' ,prefill=token ,prefill=half ,cache=off; do
    for dtype in "${dtypes[@]}"; do
      for linear in '' ,linear=w4a4; do
        path=$backend$schedule$dtype$linear
        if verdict=$("$program" ab-check --model "$model" --ids 9690,198,12 --b "$path"); then
          printf 'ok    %s: %s\n' "$path" "$(tail -n 1 <<<"$verdict")"
        else
          printf 'WRONG %s: %s\n' "$path" "$(tail -n 1 <<<"$verdict")" && failed=1
        fi
      done
    done
  done
done
exit $failed
