#!/usr/bin/env python3
"""Writes what transformers computes inside a model, in the form of `qwen3fp4 dump --taps`.

    pip install torch==2.11.0 transformers==5.17.0 gguf accelerate safetensors
    tools/dump_transformers_taps.py MODEL --ids 1,2,3 --taps 'self_attn$|mlp$' --out theirs.safetensors
    tools/dump_transformers_taps.py MODEL --compare ours.safetensors

MODEL is a Hugging Face folder or a GGUF file, computed in fp32. The file holds `ids` i64 [T], `logits`
f32 [T, vocab] and the output of every module that the regular expression finds, without the batch
dimension; operations between modules have the names that doc/model.md gives them. --compare runs the ids of a file of ours instead and prints, for each tensor in it, max |diff|,
relative L2, cosine and the best fit `ours = s * theirs`; exit code 1 when a relative L2 exceeds --bound.
"""

import argparse
import itertools
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


def watch_rope(model: torch.nn.Module, keep) -> None:
    """RoPE is a function of transformers' modelling file, called once a layer, in order."""
    modelling = sys.modules[type(model).__module__]
    plain = modelling.apply_rotary_pos_emb
    layers = itertools.count()

    def watched(*args, **kwargs):
        rotated = plain(*args, **kwargs)
        layer = next(layers)
        for name, tensor in zip("qk", rotated):
            keep(f"model.layers.{layer}.self_attn.{name}_rope", tensor.transpose(1, 2))
        return rotated

    modelling.apply_rotary_pos_emb = watched


# An operation between modules is the input of the module behind it.
INPUT_OF = {
    "self_attn.o_proj": "self_attn.attention",
    "post_attention_layernorm": "self_attn_residual",
    "mlp.down_proj": "mlp.swiglu",
}


def run(model: torch.nn.Module, ids: torch.Tensor, picked) -> dict[str, torch.Tensor]:
    outputs = {"ids": ids}

    def keep(name: str, tensor: torch.Tensor) -> None:
        # q_norm and k_norm see [1, T, heads, head_dim]; every other module [1, T, features].
        if picked(name):
            outputs[name] = tensor.detach()[0].float().contiguous().clone()

    def keep_output(name: str):
        def hook(_module, _inputs, output):
            first = output[0] if isinstance(output, tuple) else output
            if isinstance(first, torch.Tensor):  # the whole model returns an object
                keep(name, first)

        return hook

    def keep_input(name: str):
        return lambda _module, inputs: keep(name, inputs[0])

    for name, module in model.named_modules():
        if name:
            module.register_forward_hook(keep_output(name))
        for behind, operation in INPUT_OF.items():
            if name.endswith("." + behind):
                module.register_forward_pre_hook(keep_input(name.removesuffix(behind) + operation))
    watch_rope(model, keep)
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
    save_file(run(model, ids, lambda name: re.search(args.taps, name)), args.out)


if __name__ == "__main__":
    main()
