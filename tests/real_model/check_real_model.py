#!/usr/bin/env python3
"""The program against transformers on SmolLM2-135M-Instruct with its real weights.

    check_real_model.py PROGRAM GGUF FIXTURE.npz WORK_FOLDER

Converts the GGUF to fp32 and compares logits and 48 greedy tokens with the fixture
(tools/make_real_model_fixture.py), and the layers' outputs by ab-check; then converts to NVFP4 and NF4 and
judges both by KL against fp32; then compares paths with the reference by ab-check.
"""

import json
import pathlib
import shutil
import struct
import subprocess
import sys

import numpy as np

# fp32 sums in another order: the longest is hidden_size * 30 layers of residual adds. Measured
# 2e-5 of the largest logit; a wrong weight row, eps or RoPE base moves logits by more than 1e-2.
LOGIT_BOUND = 1e-4
# Above plain rounding's KL (.41 on this text) a quantiser is broken, not merely unlucky.
KL_BOUND = {"nvfp4": 0.40, "nf4": 0.40}
TEXT = """The tide tables of a small harbour are worked out a year ahead. Nobody in the village reads
them twice: the fishermen know the hour by the smell of the mud, and visitors ask the fishermen. When
the printed table and the old men disagree, people wait, and usually the old men are right, because the
table knows the moon but not the wind. A strong south-westerly holds the water in the bay for an hour
longer than any calculation allows, and a dry easterly sends it away early."""


def run(*command: object, **options) -> str:
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, **options)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}\nexit code {done.returncode}: {done.stderr}")
    return done.stdout


def read_safetensors(path: pathlib.Path) -> dict[str, np.ndarray]:
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    types = {"I64": "<i8", "F32": "<f4"}
    return {
        name: np.frombuffer(
            data[8 + length + entry["data_offsets"][0] : 8 + length + entry["data_offsets"][1]],
            types[entry["dtype"]],
        ).reshape(entry["shape"])
        for name, entry in header.items()
        if name != "__metadata__"
    }


# One of each schedule, dtype and kind of linear: the program is sanitized, and slow.
# scripts/check_paths.sh runs all of them with the release build.
PATHS = ("cpu", "cpu,prefill=token,linear=w4a4", "cpu,prefill=half,dtype=bf16", "reference,cache=off",
         "cpu,ste=on,dtype=bf16")


def check(condition: bool, sentence: str) -> None:
    print(("ok    " if condition else "WRONG ") + sentence, flush=True)
    if not condition:
        sys.exit(1)


def main() -> None:
    program, gguf, fixture, work = (pathlib.Path(a).resolve() for a in sys.argv[1:])
    golden = np.load(fixture)
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)

    run(program, "convert", gguf, work / "f32", "--format", "f32")
    ids = ",".join(map(str, golden["ids"]))
    for backend in ("reference", "cpu"):
        out = work / f"{backend}.safetensors"
        run(program, "dump", "--model", work / "f32", "--ids", ids, "--out", out, "--backend", backend)
        dumped = read_safetensors(out)
        check(np.array_equal(dumped["ids"], golden["ids"]), f"{backend}: ids")
        logits = dumped["logits"].astype(np.float64)
        scale = golden["largest"][:, None]
        worst = np.max(np.abs(logits[:, golden["columns"]] - golden["logits"]) / scale)
        check(worst <= LOGIT_BOUND, f"{backend}: logits differ by {worst:.2e} of the largest")
        top = logits.max(-1, keepdims=True)
        total = np.log(np.exp(logits - top).sum(-1)) + top[:, 0]
        worst = np.max(np.abs(total - golden["logsumexp"]) / golden["largest"])
        check(worst <= LOGIT_BOUND, f"{backend}: log-sum-exp differs by {worst:.2e}")
        answer = json.loads(
            run(program, "generate", "--model", work / "f32", "--ids", ids, "--max-tokens", 48,
                "--temp", 0, "--repeat-penalty", 1, "--ignore-eos", "--json", "--backend", backend)
        )
        check(answer["ids"] == golden["greedy"].tolist(), f"{backend}: 48 greedy tokens")

    prompt = json.loads(
        run(program, "generate", "--model", work / "f32", "--prompt",
            "Write one short sentence about UFO and you.", "--max-tokens", 1, "--json")
    )
    check(prompt["prompt_ids"] == golden["ids"].tolist(), "chat template and tokenizer: prompt ids")

    text = work / "text.txt"
    text.write_text(TEXT)
    for backend in ("reference", "cpu,prefill=token"):
        run(program, "ab-check", "--model", work / "f32", "--a", backend, "--mode", "chained",
            "--b-file", fixture.parent / "smollm2_taps.safetensors")
        check(True, f"{backend}: ab-check with transformers' layers")
    for kind, bound in KL_BOUND.items():
        run(program, "convert", gguf, work / kind, "--format", kind)
        row = json.loads(
            run(program, "perplexity", "--model", work / kind, "--kl-against", work / "f32",
                "--file", text, "--max-tokens", 96, "--context", 96, "--json")
        )
        check(0 < row["kl"]["mean"] <= bound, f"{kind}: KL {row['kl']['mean']:.3f}, top-1 {row['top1']}")
    for path in PATHS:
        run(program, "ab-check", "--model", work / "nvfp4", "--ids", "9690,198,12", "--b", path)
        check(True, f"{path}: ab-check")
    shutil.rmtree(work)


if __name__ == "__main__":
    main()
