#!/usr/bin/env bash
# How fast the memory guard acts on memory that its caps cannot see: every command runs once as it
# is, then often with a limit a little above its own peak and a preloaded library
# (tools/take_memory.c) that passes it at a moment of its own, spread over the run. One line a
# breach, in ms from the last look within the limit, which was before the breach, until the stop was
# requested, seen and, with the report (and what the run saved), done; then median and worst of each
# command. A run that ends with exit code 75 and without "seen" asked for memory between the breach
# and the watch's next look, and was refused it by the caps, which look themselves then.
#
#   scripts/guard_reaction.sh PROGRAM MODEL [--backend cpu|cuda] [--source CHECKPOINT] [--breaches N]
#                             [--poll SECONDS]
#
# One with exit code 5 was at its plan when the breach came, and found that it would not fit.
# CHECKPOINT: what convert reads (default: MODEL, of which it only copies packed weights).
set -euo pipefail
program=$(realpath "$1") model=$(realpath "$2")
shift 2
backend=cpu source=$model breaches=6 poll=0.05
while (($#)); do
  case $1 in
    --backend) backend=$2 ;;
    --source) source=$(realpath "$2") ;;
    --breaches) breaches=$2 ;;
    --poll) poll=$2 ;;
    *) echo "unknown option $1 (--backend, --source, --breaches, --poll)" >&2 && exit 2 ;;
  esac
  shift 2
done
root=$(realpath "$(dirname "$0")/..")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cc -shared -fPIC -o "$work/take_memory.so" "$root/tools/take_memory.c"
cat "$root"/doc/*.md >"$work/all.txt"
head -c 6000 "$work/all.txt" >"$work/prompt.txt"

# field NAME: of the last report, empty where it has none; "peak": the most that the run took of the
# memory that --guard-limit-gb limits.
field() {
  python3 - "$work/report.json" "$backend" "$1" <<'EOF'
import json, sys
report = json.load(open(sys.argv[1]))
largest, breach, name = report["largest"], report.get("breach", {}), sys.argv[3]
if name == "peak":
    print(largest["device_total"] - largest["device_free"] if sys.argv[2] == "cuda"
          else largest["process_resident"])
elif name == "seconds":
    print(report["seconds"])
elif name == "breach" and breach:
    since = lambda moment: f"{(moment - breach['last_within']) * 1e3:.1f}"
    print(breach["phase"], since(breach["requested"]),
          since(breach["seen"]) if "seen" in breach else "-", since(report["seconds"]))
EOF
}

# run COMMAND OPTION...: its exit code; the report stays.
run() {
  rm -rf "$work/out" "$work/report.json"
  local code=0
  "$program" "$@" --guard-poll-secs "$poll" --memory-report "$work/report.json" \
    >"$work/stdout" 2>"$work/stderr" || code=$?
  return "$code"
}

# measure COMMAND OPTION...
measure() {
  run "$@" || { cat "$work/stderr" >&2 && exit 1; }
  local peak seconds limit code after
  peak=$(field peak) seconds=$(field seconds)
  # What is held shortly, the watch may have missed: the plan has it.
  limit=$("$program" "$@" --dry-run --json | python3 -c "
import json, sys
print((1.05 * max($peak, json.load(sys.stdin)['process_peak_bytes']) + 50e6) / 1e9)")
  export QF_TAKE_BYTES=800000000 QF_TAKE_FROM=$backend
  if [[ $backend == cuda ]]; then QF_TAKE_BYTES=3000000000; fi
  for ((i = 1; i <= breaches; ++i)); do
    after=$(python3 -c "print($seconds * (0.1 + 0.75 * $i / $breaches))")
    code=0
    QF_TAKE_AFTER=$after LD_PRELOAD=$work/take_memory.so run "$@" --guard-limit-gb "$limit" ||
      code=$?
    printf '%s %s %s\n' "$1" "$code" "$(field breach)" | tee -a "$work/lines"
  done
}

# Long enough that most of a run is not its start.
tokens=150 characters=12000 steps=3 reps=3
if [[ $backend == cuda ]]; then tokens=3000 characters=60000 steps=40 reps=40; fi
head -c "$characters" "$work/all.txt" >"$work/text.txt"
with_model=(--model "$model" --backend "$backend")
echo "command exit_code phase requested seen done"
measure generate "${with_model[@]}" --prompt-file "$work/prompt.txt" --max-tokens "$tokens" \
  --ignore-eos
measure perplexity "${with_model[@]}" --file "$work/text.txt" --context 1024
measure train "${with_model[@]}" --data "$root/configs/whoami.tsv" --out "$work/out" --steps "$steps" \
  --batch 8
measure bench "${with_model[@]}" --pp 512 --tg 64 --reps "$reps"
backend=cpu # whatever computes, convert does not
measure convert "$source" "$work/out"
python3 - "$work/lines" <<'EOF'
import statistics, sys
rows = [line.split() for line in open(sys.argv[1])]
for command in sorted({row[0] for row in rows}) + ["all"]:
    mine = [row for row in rows if command in (row[0], "all")]
    stopped = [row for row in mine if row[1] == "75"]
    seen = [row for row in stopped if len(row) == 6 and row[4] != "-"]
    plan = sum(row[1] == "5" for row in mine)
    line = (f"{command}: {len(mine)} runs, {len(seen)} stopped by the watch, "
            f"{len(stopped) - len(seen)} refused by the caps before it looked, {plan} by the plan")
    if len(stopped) + plan < len(mine):
        line += f", {len(mine) - len(stopped) - plan} NOT STOPPED"
    for name, column in [("requested", 3), ("seen", 4), ("done", 5)]:
        values = [float(row[column]) for row in seen]
        if values:
            line += f"; {name} median {statistics.median(values):.0f}, worst {max(values):.0f} ms"
    print(line)
EOF
