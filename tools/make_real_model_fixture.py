#!/usr/bin/env python3
"""Makes tests/golden/real_model: what transformers computes with SmolLM2-135M-Instruct.

    pip install torch==2.11.0 transformers==5.17.0 gguf accelerate
    tools/make_real_model_fixture.py .deps/SmolLM2-135M-Instruct.Q4_1.gguf

The GGUF is dequantised to fp32 by transformers, so that the fixture judges our GGUF reader, the
un-permutation of q and k, and the forward pass together. Kept: ids, 512 columns of the logits at every
position, the log-sum-exp of every position (which any wrong column moves), and 48 greedy tokens
(smollm2.npz); the outputs of all layers for the first three tokens (smollm2_taps.safetensors).
"""

import pathlib
import re
import sys

import numpy as np
import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

import dump_transformers_taps

PROMPT = "Write one short sentence about UFO and you."


def main() -> None:
    gguf = pathlib.Path(sys.argv[1])
    model = AutoModelForCausalLM.from_pretrained(
        gguf.parent, gguf_file=gguf.name, dtype=torch.float32, attn_implementation="eager"
    )
    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": PROMPT}], tokenize=False, add_generation_prompt=True
    )
    ids = tokenizer(text, return_tensors="pt", add_special_tokens=False).input_ids
    columns = np.sort(np.random.default_rng(7).choice(model.config.vocab_size, 512, replace=False))
    with torch.inference_mode():
        logits = model(ids).logits[0].double()
        answer = model.generate(
            ids, max_new_tokens=48, min_new_tokens=48, do_sample=False, pad_token_id=0,
            repetition_penalty=1.0, suppress_tokens=None, eos_token_id=-1,
        )[0, ids.shape[1]:]
        margins = []
        for row in model(torch.cat([ids[0], answer])[None]).logits[0, ids.shape[1] - 1 : -1]:
            top = row.topk(2).values
            margins.append(float(top[0] - top[1]))
    out = pathlib.Path(__file__).parents[1] / "tests/golden/real_model/smollm2.npz"
    out.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(
        out,
        ids=ids[0].numpy(),
        columns=columns,
        logits=logits[:, columns].float().numpy(),
        logsumexp=logits.logsumexp(-1).numpy(),
        largest=logits.abs().amax(-1).numpy(),
        greedy=answer.numpy(),
    )
    taps = dump_transformers_taps.run(
        model, ids[0, :3], lambda name: re.fullmatch(r"model\.(layers\.\d+|norm)", name)
    )
    del taps["logits"]
    save_file(taps, out.parent / "smollm2_taps.safetensors")
    print(repr(text), tokenizer.decode(answer), f"smallest greedy margin {min(margins):.3g}", sep="\n")


if __name__ == "__main__":
    main()
