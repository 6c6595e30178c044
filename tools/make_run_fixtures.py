"""Writes tests/golden/run/sampler.json: what transformers' logits processors make of logits.

Needs transformers 5.17 and torch 2.11 from PyPI:
    python tools/make_run_fixtures.py
"""

import json
import pathlib
import struct

import torch
from transformers import GenerationConfig, GPT2Config, GPT2LMHeadModel

OUT = pathlib.Path(__file__).parent.parent / "tests" / "golden" / "run"
VOCAB = 200

# Each alone, then together. Values of top_p that no cumulative sum comes near (checked below).
OPTIONS = [
    {},
    {"temperature": 0.7},
    {"temperature": 1.9},
    {"top_k": 1},
    {"top_k": 20},
    {"top_k": 1000},
    {"top_p": 0.8},
    {"top_p": 0.35},
    {"top_p": 1e-6},
    {"top_p": 0.0},
    {"min_p": 0.05},
    {"min_p": 1.0},
    {"repetition_penalty": 1.3},
    {"repetition_penalty": 0.8},
    {"temperature": 0.7, "top_k": 20, "top_p": 0.8, "min_p": 0.0},  # Qwen3-4B-Instruct-2507
    {"temperature": 1.5, "top_k": 40, "top_p": 0.9, "min_p": 0.03, "repetition_penalty": 1.2},
    {"temperature": 0.25, "top_k": 7, "top_p": 0.6, "min_p": 0.2, "repetition_penalty": 1.05},
]


def bits(values):
    return [struct.unpack("<I", struct.pack("<f", v))[0] for v in values]


def logits_of(kind, generator):
    x = torch.randn(VOCAB, generator=generator)
    if kind == "peaked":
        x[VOCAB // 3] += 14
    if kind == "ties":  # several logits equal the top-20's last one; top-k keeps them all
        x = torch.round(x * 4) / 4
    return x * 2


def main():
    torch.manual_seed(0)
    # generate() itself builds the processors, so that their order is transformers' own.
    model = GPT2LMHeadModel(GPT2Config(n_layer=1, n_head=1, n_embd=4, vocab_size=VOCAB))
    cases = []
    for kind in ("flat", "peaked", "ties"):
        for index, options in enumerate(OPTIONS):
            # Equal logits at the border of top-p: transformers keeps whichever its sort put last.
            if kind == "ties" and "top_p" in options:
                continue
            generator = torch.Generator().manual_seed(1000 * len(kind) + index)
            logits = logits_of(kind, generator)
            history = torch.randint(VOCAB, (12,), generator=generator)
            history[-1] = history[0]  # an id that occurs twice
            history[1] = logits.argmax()
            config = GenerationConfig(do_sample=True, **{"top_k": 0, **options})
            processors = model._get_logits_processor(config)
            scores = processors(history[None], logits[None].clone())
            probabilities = scores[0].softmax(-1)
            check_top_p_margin(logits, history, options)
            cases.append(
                {
                    "name": f"{kind}_{index}",
                    "options": options,
                    "history": history.tolist(),
                    "logits_f32_bits": bits(logits.tolist()),
                    "ids": torch.nonzero(probabilities)[:, 0].tolist(),
                    "probabilities": probabilities[probabilities > 0].tolist(),
                }
            )
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / "sampler.json").write_text(json.dumps(cases, separators=(",", ":")) + "\n")


def check_top_p_margin(logits, history, options):
    """The fixture must not hinge on rounding: f32 there, double here."""
    if not 0 < options.get("top_p", 0):
        return
    scores = logits.double()
    penalty = options.get("repetition_penalty", 1.0)
    picked = scores[history]
    scores[history] = torch.where(picked < 0, picked * penalty, picked / penalty)
    scores = scores / options.get("temperature", 1.0)
    if "top_k" in options:
        scores[scores < scores.topk(options["top_k"])[0][-1]] = -torch.inf
    sums = scores.softmax(-1).sort(descending=True)[0].cumsum(-1)
    assert (sums - options["top_p"]).abs().min() > 1e-6 * min(1, options["top_p"]), options


if __name__ == "__main__":
    main()
