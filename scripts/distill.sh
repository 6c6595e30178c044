#!/usr/bin/env bash
# What calibration and distillation win back of the loss to 4 bits, as doc/quantisation.md states it:
#
#   scripts/distill.sh --program FILE --source FILE --documents FILE --work DIR [--backend cuda]
#     [--steps N]... [--evaluation FILE] [-- OPTIONS OF train]
#
# The source is what convert reads (the quick start's GGUF), the documents a .txt without licence
# texts (tools/make_distillation_text.py). Prints the KL to the full-precision model on the first
# 1024 tokens of a licence text. What the work folder has already is not made again.
set -euo pipefail

backend=cuda evaluation=/usr/share/common-licenses/Apache-2.0 program='' source='' documents='' work=''
steps=()
while (($#)); do
  case $1 in
    --program) program=$2 && shift 2 ;;
    --source) source=$2 && shift 2 ;;
    --documents) documents=$2 && shift 2 ;;
    --work) work=$2 && shift 2 ;;
    --backend) backend=$2 && shift 2 ;;
    --steps) steps+=("$2") && shift 2 ;;
    --evaluation) evaluation=$2 && shift 2 ;;
    --) shift && break ;;
    *) echo "distill: unexpected $1" >&2 && exit 2 ;;
  esac
done
[[ -n $program && -n $source && -n $documents && -n $work ]] ||
  { echo "distill: expected --program, --source, --documents and --work" >&2 && exit 2; }
((${#steps[@]})) || steps=(200 600)
options=("$@")
((${#options[@]})) || options=(--seq-len 512 --batch 16)
prompts=$(dirname "$0")/../configs/replay_prompts.txt
mkdir -p "$work"

made() { [[ -e $1 ]] && echo "there already: $1" >&2; }
score() {
  printf '%s ' "$1"
  "$program" perplexity --model "$work/$1" --kl-against "$work/teacher" --backend "$backend" --dtype fp32 \
    --file "$evaluation" --max-tokens 1024 --context 1024 --json
}

made "$work/teacher" || "$program" convert "$source" "$work/teacher" --format f32 >/dev/null
# Half of what is calibrated and trained on: the teacher's own answers.
made "$work/answers.jsonl" || "$program" gen-replay --model "$work/teacher" --backend "$backend" \
  --prompts "$prompts" --temp 1 --max-tokens 256 --out "$work/answers.jsonl"
answers=$(wc -l <"$work/answers.jsonl")
made "$work/plain" || "$program" convert "$source" "$work/plain" >/dev/null
made "$work/weighted" || "$program" convert "$source" "$work/weighted" --backend "$backend" \
  --calibrate "$documents" --calibrate "$work/answers.jsonl" --calibration-tokens 262144 >/dev/null
score plain
score weighted
for count in "${steps[@]}"; do
  # A text is one example: its weight gives it half of the sequences.
  made "$work/distilled-$count" || "$program" train --preset distill --model "$work/weighted" \
    --teacher "$work/teacher" --init-master "$source" --backend "$backend" --steps "$count" \
    --data "$documents:$answers" --data "$work/answers.jsonl" \
    --out "$work/distilled-$count" "${options[@]}" 2>"$work/distilled-$count.err"
  score "distilled-$count"
done
