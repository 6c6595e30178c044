#!/usr/bin/env python3
"""Writes what transformers computes inside a model, in the form of `qwen3fp4 dump --taps`.

    pip install torch==2.11.0 transformers==5.17.0 gguf accelerate safetensors
    tools/dump_transformers_taps.py MODEL --ids 1,2,3 --taps 'self_attn$|mlp$' --out theirs.safetensors
    tools/dump_transformers_taps.py MODEL --compare ours.safetensors

MODEL is a Hugging Face folder or a GGUF file, computed in fp32. The file holds `ids` i64 [T], `logits`
f32 [T, vocab] and the output of every module that the regular expression finds, without the batch
dimension. --compare runs the ids of a file of ours instead and prints, for each tensor in it, max |diff|,
relative L2, cosine and the best fit `ours = s * theirs`; exit code 1 when a relative L2 exceeds --bound.
"""

import argparse
import pathlib
import re
import sys

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM


def load(model: pathlib.Path) -> torch.nn.Module:
    gguf = model.suffix == ".gguf"
    return AutoModelForCausalLM.from_pretrained(
        model.parent if gguf else model, gguf_file=model.name if gguf else None,
        dtype=torch.float32, attn_implementation="eager",
    )


def run(model: torch.nn.Module, ids: torch.Tensor, picked) -> dict[str, torch.Tensor]:
    outputs = {"ids": ids}

    def hook(name: str):
        def keep(_module, _inputs, output):
            tensor = output[0] if isinstance(output, tuple) else output
            # q_norm and k_norm see [1, T, heads, head_dim]; every other module [1, T, features].
            outputs[name] = tensor.detach()[0].float().contiguous().clone()

        return keep

    for name, module in model.named_modules():
        if picked(name):
            module.register_forward_hook(hook(name))
    with torch.inference_mode():
        outputs["logits"] = model(ids[None]).logits[0].float().contiguous()
    return outputs


def compare(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor], bound: float) -> bool:
    good = True
    print(f"{'module':44} {'max |diff|':>10} {'rel. L2':>10} {'1 - cosine':>10} {'s':>10}")
    for name in theirs:
        if name == "ids" or name not in ours:
            continue
        a, b = theirs[name].double().flatten(), ours[name].double().flatten()
        relative = ((b - a).norm() / a.norm()).item()
        cosine = (a @ b / (a.norm() * b.norm())).item()
        fit = (a @ b / (a @ a)).item()
        wrong = not relative <= bound  # NaN is wrong, too
        good = good and not wrong
        print(f"{name:44} {(b - a).abs().max():10.2e} {relative:10.2e} {1 - cosine:10.2e} {fit:10.6f}"
              + (" <-- out of bounds" if wrong else ""))
    missing = ours.keys() - theirs.keys()
    for name in sorted(missing):
        print(f"{name:44} transformers has no such module")
    return good and not missing


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("--ids", default="1,2,3")
    parser.add_argument("--taps", default=".")
    parser.add_argument("--out", type=pathlib.Path)
    parser.add_argument("--compare", type=pathlib.Path)
    parser.add_argument("--bound", type=float, default=1e-4)
    args = parser.parse_args()
    if (args.out is None) == (args.compare is None):
        parser.error("expected one of --out and --compare")
    model = load(args.model)
    if args.compare:
        ours = load_file(args.compare)
        theirs = run(model, ours["ids"], ours.__contains__)
        sys.exit(0 if compare(ours, theirs, args.bound) else 1)
    ids = torch.tensor([int(i) for i in args.ids.split(",")])
    save_file(run(model, ids, lambda name: name and re.search(args.taps, name)), args.out)


if __name__ == "__main__":
    main()
