#!/usr/bin/env bash
# On a machine with a GPU and nvcc, without network: builds the kernels (no libtorch needed), runs
# every GPU test, runs them again under compute-sanitizer, and prints the timing rows. With
# `--program build/cuda/qwen3fp4 --model DIR` (from the quick start) the program's paths are checked
# as well: every CUDA path against the reference, greedy answers, KL, and the bench's rows. `--model`
# may be given again, for other formats; `--master SOURCE`, the model before it was quantised, adds
# training without STE.
# `--quick` leaves the sanitizers out.
set -euo pipefail
cd "$(dirname "$0")/.."

build=build/gpu program='' quick=false
models=() master=()
while (($#)); do
  case $1 in
    --program) program=$2 && shift 2 ;;
    --model) models+=("$2") && shift 2 ;;
    --master) master=(--master "$2") && shift 2 ;;
    --build) build=$2 && shift 2 ;;
    --quick) quick=true && shift ;;
    *) echo "gpu_check: expected --program FILE, --model DIR, --master SOURCE, --build DIR or --quick, got $1" >&2 && exit 2 ;;
  esac
done

arch=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader | head -n 1 | tr -d .)
[[ $arch == 90 ]] && arch=90a
nvidia-smi --query-gpu=name,driver_version --format=csv,noheader
cmake -S cmake/gpu_check -B "$build" -DCMAKE_BUILD_TYPE=Release -DCMAKE_CUDA_ARCHITECTURES="$arch" >/dev/null
cmake --build "$build" -j "$(nproc)" >/dev/null
"$build"/cuda_test --gtest_brief=1
if ! $quick; then
  # Of the decode kernel single steps of a small model: slowed down a hundredfold, its blocks would
  # give up waiting for each other. racecheck takes its hint to the producer (`multiplying`, a word
  # that says nothing of other words) for a race, so it sees the other kernels only; as an atomic it
  # costs 5 % of a step.
  single='-*Speed:CudaDecode.EqualsTheDefinition*:CudaDecode.GivesTheSameBitsInEveryRun'
  for tool in memcheck racecheck synccheck; do
    echo "== compute-sanitizer $tool"
    checked=$single
    [[ $tool == racecheck ]] && checked='-*Speed:CudaDecode.*'
    compute-sanitizer --tool "$tool" --error-exitcode 1 "$build"/cuda_test --gtest_brief=1 \
      --gtest_filter="$checked" | tail -n 3
  done
fi

[[ -n $program ]] || exit 0
failed=0
prompt='Write one short sentence about UFO and you.'
for model in "${models[@]}"; do
  generate() { "$program" generate --model "$model" --prompt "$prompt" --max-tokens 64 --ignore-eos "$@"; }
  echo "== $model: paths of the program"
  scripts/check_paths.sh "$program" "$model" "${master[@]}" cuda || failed=1
  echo "== $model: greedy answers"
  reference=$(generate --backend reference --temp 0)
  for options in '' '--fused false' '--dtype bf16' '--dtype fp32'; do
    # shellcheck disable=SC2086
    if [[ $(generate --backend cuda --temp 0 $options) == "$reference" ]]; then
      echo "cuda $options: the reference's 64 tokens"
    else
      echo "cuda $options: other tokens than the reference's" && failed=1
    fi
  done
  echo "== $model: --linear"
  if [[ $(generate --backend cuda --temp 0 --linear reference) == "$reference" ]]; then
    echo "reference: the reference's 64 tokens"
  else
    echo "reference: other tokens than the reference's" && failed=1
  fi
  # FP4 tensor cores compute what the CPU emulates, or the device says in one sentence that it has none.
  if fp4=$("$program" perplexity --model "$model" --backend cuda --linear w4a4 --file doc/cli.md \
    --max-tokens 512 --kl-against "$model" --kl-backend reference --json 2>&1); then
    echo "w4a4: $fp4"
  elif [[ $? == 2 && $fp4 == *--linear\ w4a4* ]]; then
    echo "w4a4 is refused: $fp4"
  else
    echo "w4a4: $fp4" && failed=1
  fi
  echo "== $model: same seed, same text"
  first=$(generate --backend cuda --seed 7 --temp 0.8)
  again=$(generate --backend cuda --seed 7 --temp 0.8)
  other=$(generate --backend cuda --seed 8 --temp 0.8)
  if [[ -n $first && $first == "$again" && $first != "$other" ]]; then
    echo "same; another with another seed"
  else
    echo "different, or the same for every seed" && failed=1
  fi
  echo "== $model: KL(reference || cuda)"
  for options in '--dtype fp32' '--dtype fp16' '--dtype bf16' '--kv-cache bf16' '--kv-cache fp8'; do
    # shellcheck disable=SC2086
    "$program" perplexity --model "$model" --backend cuda $options --file doc/cli.md \
      --max-tokens 1024 --kl-against "$model" --kl-backend reference --json || failed=1
  done
done
echo "== kernels"
"$program" bench --kernels --backend cuda || failed=1
echo "== bench"
"$program" bench --backend cuda --synthetic qwen3-4b --pp 512,2048 --tg 128 --depth 0,4096 || failed=1
for type in fp16 fp8; do
  "$program" bench --backend cuda --synthetic qwen3-4b --tg 128 --depth 32640 --kv-cache "$type" || failed=1
done
exit $failed
