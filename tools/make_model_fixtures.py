#!/usr/bin/env python3
"""Makes tests/golden/model: small random models, and what transformers computes with them in fp32.

    pip install torch==2.11.0 transformers==5.17.0 torchao==0.18.0 bitsandbytes==0.50.0
    tools/make_model_fixtures.py [NAME...]

A folder a model: config.json (in both spellings), model.dat, and expected.dat with ids [T], logits
[T, vocab], 48 greedy tokens after them, and the inverse frequencies of RoPE. TAPPED ones also get
taps.safetensors with the output of every operation. Two models are packed,
one as torchao and one as bitsandbytes does it, under the names that files in the wild have;
transformers runs what these libraries dequantise.
"""

import json
import pathlib
import sys

import numpy as np
import torch
from bitsandbytes.functional import dequantize_4bit, quantize_4bit
from torchao.prototype.mx_formats.nvfp4_tensor import NVFP4Tensor
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, LlamaConfig, Qwen3Config

import dump_transformers_taps

GOLDEN = pathlib.Path(__file__).parents[1] / "tests/golden/model"
SMALL = dict(vocab_size=96, hidden_size=32, intermediate_size=48, num_hidden_layers=2,
             max_position_embeddings=128, rms_norm_eps=1e-6, eos_token_id=2)
TAPPED = ("qwen3_tied_gqa4", "llama_tied_gqa3")
CODES = {torch.float32: 6, torch.float16: 5, torch.bfloat16: 15, torch.int64: 4,
         torch.uint8: 0, torch.float8_e4m3fn: 101}

# name: (config class, settings, checkpoint dtype, tokens, old spelling of config.json)
MODELS = {
    "qwen3_tied_gqa4": (Qwen3Config, dict(
        num_attention_heads=4, num_key_value_heads=1, head_dim=16, tie_word_embeddings=True,
        rope_parameters=dict(rope_type="default", rope_theta=1e6)), torch.float32, 12, False),
    "qwen3_untied_mha": (Qwen3Config, dict(
        num_attention_heads=2, num_key_value_heads=2, head_dim=16, tie_word_embeddings=False,
        rope_parameters=dict(rope_type="default", rope_theta=5e6)), torch.float32, 12, True),
    "qwen3_untied_gqa8": (Qwen3Config, dict(
        num_attention_heads=8, num_key_value_heads=1, head_dim=8, tie_word_embeddings=False,
        rope_parameters=dict(rope_type="default", rope_theta=1e4)), torch.float32, 12, False),
    "qwen3_yarn": (Qwen3Config, dict(
        num_attention_heads=4, num_key_value_heads=2, head_dim=16, tie_word_embeddings=True,
        rope_parameters=dict(rope_type="yarn", rope_theta=1e4, factor=4.0,
                             original_max_position_embeddings=32)), torch.float32, 48, True),
    "llama_tied_gqa3": (LlamaConfig, dict(
        num_attention_heads=6, num_key_value_heads=2, hidden_size=48, tie_word_embeddings=True,
        rope_parameters=dict(rope_type="default", rope_theta=1e5)), torch.float32, 12, True),
    "llama_linear": (LlamaConfig, dict(
        num_attention_heads=4, num_key_value_heads=4, tie_word_embeddings=False,
        rope_parameters=dict(rope_type="linear", rope_theta=1e4, factor=2.0)), torch.float32, 12, False),
    "qwen3_bf16": (Qwen3Config, dict(
        num_attention_heads=4, num_key_value_heads=1, head_dim=16, tie_word_embeddings=True,
        rope_parameters=dict(rope_type="default", rope_theta=1e6)), torch.bfloat16, 12, False),
    "qwen3_f16": (Qwen3Config, dict(
        num_attention_heads=4, num_key_value_heads=1, head_dim=16, tie_word_embeddings=False,
        rope_parameters=dict(rope_type="default", rope_theta=1e6)), torch.float16, 12, False),
    "qwen3_nvfp4": (Qwen3Config, dict(
        num_attention_heads=4, num_key_value_heads=2, head_dim=16, tie_word_embeddings=False,
        rope_parameters=dict(rope_type="default", rope_theta=5e6)), torch.bfloat16, 12, True),
    # 320 blocks in gate_proj: one and a bit of bitsandbytes' nested blocks of 256. Widths are
    # multiples of 64: else bitsandbytes 0.50's CPU kernel begins a block with every row, which its
    # quantiser does not.
    "qwen3_nf4": (Qwen3Config, dict(
        num_attention_heads=4, num_key_value_heads=2, head_dim=16, tie_word_embeddings=False,
        hidden_size=64, intermediate_size=320,
        rope_parameters=dict(rope_type="default", rope_theta=1e6)), torch.bfloat16, 12, False),
}


def leb(value: int) -> bytes:
    out = bytearray()
    while True:
        out.append(value & 0x7F | (0x80 if value > 0x7F else 0))
        value >>= 7
        if not value:
            return bytes(out)


def write_dat(path: pathlib.Path, tensors: dict[str, torch.Tensor]) -> None:
    """An independent writer of the container, so that ours and its reader cannot agree on a mistake."""
    with open(path, "wb") as f:
        f.write(leb(len(tensors)))
        for name, t in tensors.items():
            f.write(leb(len(name.encode())) + name.encode() + leb(CODES[t.dtype]) + leb(t.dim()))
            f.write(b"".join(leb(d) for d in t.shape))
            f.write(t.contiguous().view(torch.uint8).numpy().tobytes() if t.dim() else
                    t.reshape(1).view(torch.uint8).numpy().tobytes())


def randomise(model: torch.nn.Module, dtype: torch.dtype) -> None:
    for name, p in model.named_parameters():
        if p.dim() == 1:
            p.uniform_(0.5, 1.5)
        elif "embed" in name:
            p.normal_(0, 1)
        else:  # far enough from uniform that greedy tokens do not tie
            p.normal_(0, (3.0 if "lm_head" in name else 1.5) / p.shape[1] ** 0.5)
        p.copy_(p.to(dtype).float())


def pack_nvfp4(weight: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """One level of scales, as the published files have it."""
    packed = NVFP4Tensor.to_nvfp4(weight)
    return packed.dequantize(torch.float32), {"qdata": packed.qdata, "scale": packed.scale}


def pack_nf4(weight: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    codes, state = quantize_4bit(weight, blocksize=64, quant_type="nf4", compress_statistics=True)
    return dequantize_4bit(codes, state), {"": codes} | state.as_dict(packed=True)


def pack(name: str, model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """The state dict with packed linears; the model is left with what they dequantise to."""
    packer = {"qwen3_nvfp4": pack_nvfp4, "qwen3_nf4": pack_nf4}.get(name)
    dtype = MODELS[name][2]
    state = {}
    for key, weight in model.state_dict().items():
        if packer is None or not key.endswith(("_proj.weight", "lm_head.weight")):
            state[key] = weight.to(dtype)
            continue
        dequantised, entries = packer(weight)
        weight.copy_(dequantised)
        state |= {f"{key}.{part}" if part else key: t for part, t in entries.items()}
    return state


def config_json(config, old_spelling: bool) -> dict:
    keep = ["model_type", *SMALL, "num_attention_heads", "num_key_value_heads", "head_dim",
            "tie_word_embeddings", "hidden_act", "attention_bias"]
    out = {k: getattr(config, k) for k in keep if getattr(config, k, None) is not None}
    rope = dict(config.rope_parameters)
    if not old_spelling:
        return out | {"rope_parameters": rope, "dtype": "float32"}
    out |= {"rope_theta": rope.pop("rope_theta"), "torch_dtype": "float32"}
    return out | {"rope_scaling": None if rope["rope_type"] == "default" else rope}


@torch.inference_mode()
def attempt(name: str, seed: int):
    """A random model, its state dict, its 48 greedy tokens and the smallest lead of the first over the
    second logit among them."""
    cls, settings, dtype, tokens, _ = MODELS[name]
    torch.manual_seed(seed)
    config = cls(**{**SMALL, **settings})
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager").float().eval()
    randomise(model, dtype)
    state = pack(name, model)
    ids = torch.randint(0, config.vocab_size, (1, tokens))
    sequence, margins = ids, []
    for _ in range(48):
        last = model(sequence).logits[0, -1]
        top = last.topk(2).values
        margins.append(float((top[0] - top[1]) / last.abs().max()))
        sequence = torch.cat([sequence, last.argmax().view(1, 1)], 1)
    return model, state, ids, sequence[0, tokens:], min(margins)


@torch.inference_mode()
def make(name: str) -> None:
    _, _, _, _, old_spelling = MODELS[name]
    # Greedy tokens are compared exactly, so the leader must lead by more than rounding, and a model
    # that repeats one token would show little.
    for seed in range(1000):
        model, state, ids, greedy, margin = attempt(name, seed)
        if margin > 2e-3 and len(set(greedy.tolist())) >= 12:
            break
    logits = model(ids).logits[0]
    config = model.config
    folder = GOLDEN / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config_json(config, old_spelling), indent=1) + "\n")
    if config.tie_word_embeddings:
        del state["lm_head.weight"]
    write_dat(folder / "model.dat", state)
    write_dat(folder / "expected.dat", {
        "ids": ids[0], "logits": logits, "greedy": greedy,
        "inv_freq": model.model.rotary_emb.inv_freq,
        "attention_factor": torch.tensor(model.model.rotary_emb.attention_scaling)})
    if name in TAPPED:
        taps = dump_transformers_taps.run(model, ids[0], lambda module: module != "lm_head")
        save_file(taps, folder / "taps.safetensors")
    print(f"{name}: seed {seed}, smallest greedy margin {margin:.1e} of the largest logit")


if __name__ == "__main__":
    for each in sys.argv[1:] or MODELS:
        make(each)
