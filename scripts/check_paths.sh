#!/usr/bin/env bash
# Every path of a program through a model, against the reference (`ab-check`), inference's and
# training's, and the first token by three of them: one line each, and exit code 1 when one is out of
# bounds. `scripts/check_paths.sh PROGRAM MODEL [--master SOURCE] [BACKEND...]`; SOURCE is the model
# before it was quantised: with it also training without STE.
set -euo pipefail
program=$1 model=$2
shift 2
master=()
[[ ${1:-} == --master ]] && master=(--master "$2") && shift 2
(($#)) || set -- reference cpu
failed=0
errors=$(mktemp)
trap 'rm -f "$errors"' EXIT

# check NAME OPTION...
check() {
  local name=$1 verdict
  shift
  if verdict=$("$program" ab-check --model "$model" --ids 9690,198,12 "$@" 2>"$errors"); then
    printf 'ok    %s: %s\n' "$name" "$(tail -n 1 <<<"$verdict")"
  elif [[ $name == *ste=* ]] && grep -q 'or a float type on a GPU, found nf4' "$errors"; then
    printf 'none  %s: NF4 does not train on a GPU\n' "$name"
  else
    printf 'WRONG %s: %s\n' "$name" "$(tail -n 1 <<<"$verdict")" && failed=1
    cat "$errors" >&2
  fi
}

for backend in "$@"; do
  dtypes=('' ',dtype=bf16')
  [[ $backend == cuda ]] && dtypes+=(',dtype=fp16')
  for schedule in '' ,prefill=token ,prefill=half ,cache=off; do
    for dtype in "${dtypes[@]}"; do
      for linear in '' ,linear=w4a4; do
        check "$backend$schedule$dtype$linear" --b "$backend$schedule$dtype$linear"
      done
    done
  done
  for dtype in '' ',dtype=bf16'; do
    check "$backend,ste=on$dtype" --b "$backend,ste=on$dtype"
    ((${#master[@]})) && check "$backend,ste=off$dtype" --b "$backend,ste=off$dtype" "${master[@]}"
  done
  check "$backend, $backend,ste=on, first token" --three-path --b "$backend" "${master[@]}"
done
exit $failed
