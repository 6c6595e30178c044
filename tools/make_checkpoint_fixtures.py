#!/usr/bin/env python3
"""Makes the checkpoints in tests/golden/run that the tests of `convert` and `inspect` read.

Needs numpy, torch, safetensors and gguf from PyPI. The GGUF files are written by the gguf package, and
what their quantised tensors mean is what its own dequantiser says.

  llama/           Hugging Face folder, f32, one file: heads * head_dim != hidden, untied
  qwen3/           Hugging Face folder, bf16, two shards, tied, transformers 5's config spelling
  llama_f32.gguf   llama/ with q and k rows permuted as GGUF has them
  llama_quantised.gguf, llama_quantised.safetensors
                   the same in block formats, and its dequantised values under Hugging Face's names
  qwen3_f16.gguf   qwen3/ as f16, not permuted, with a small byte-level tokenizer
"""

import json
import pathlib
import sys

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType as Type
from safetensors.torch import save_file

LLAMA = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "attention_bias": False,
    "hidden_act": "silu",
    "hidden_size": 32,
    "intermediate_size": 64,
    "max_position_embeddings": 128,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "rms_norm_eps": 1e-05,
    "rope_theta": 10000.0,
    "rope_scaling": None,
    "tie_word_embeddings": False,
    "torch_dtype": "float32",
    "vocab_size": 40,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
QWEN3 = {
    "architectures": ["Qwen3ForCausalLM"],
    "model_type": "qwen3",
    "attention_bias": False,
    "hidden_act": "silu",
    "hidden_size": 32,
    "intermediate_size": 48,
    "max_position_embeddings": 256,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "num_key_value_heads": 1,
    "head_dim": 16,
    "rms_norm_eps": 1e-06,
    "rope_parameters": {"rope_type": "default", "rope_theta": 5000000},
    "tie_word_embeddings": True,
    "dtype": "bfloat16",
    "vocab_size": 264,
    "eos_token_id": 259,
    "use_sliding_window": False,
    "sliding_window": None,
}


def weights(config, seed):
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator) * 0.05

    def norm(size):
        return 1 + 0.1 * torch.randn(size, generator=generator)

    hidden, inter = config["hidden_size"], config["intermediate_size"]
    q_rows = config["num_attention_heads"] * config["head_dim"]
    kv_rows = config["num_key_value_heads"] * config["head_dim"]
    tensors = {"model.embed_tokens.weight": normal(config["vocab_size"], hidden)}
    for layer in range(config["num_hidden_layers"]):
        p = f"model.layers.{layer}."
        tensors[p + "input_layernorm.weight"] = norm(hidden)
        tensors[p + "self_attn.q_proj.weight"] = normal(q_rows, hidden)
        tensors[p + "self_attn.k_proj.weight"] = normal(kv_rows, hidden)
        tensors[p + "self_attn.v_proj.weight"] = normal(kv_rows, hidden)
        if config["model_type"] == "qwen3":
            tensors[p + "self_attn.q_norm.weight"] = norm(config["head_dim"])
            tensors[p + "self_attn.k_norm.weight"] = norm(config["head_dim"])
        tensors[p + "self_attn.o_proj.weight"] = normal(hidden, q_rows)
        tensors[p + "post_attention_layernorm.weight"] = norm(hidden)
        tensors[p + "mlp.gate_proj.weight"] = normal(inter, hidden)
        tensors[p + "mlp.up_proj.weight"] = normal(inter, hidden)
        tensors[p + "mlp.down_proj.weight"] = normal(hidden, inter)
    tensors["model.norm.weight"] = norm(hidden)
    if not config["tie_word_embeddings"]:
        tensors["lm_head.weight"] = normal(config["vocab_size"], hidden)
    return tensors


def permute(rows, heads):
    """Hugging Face's row order of q and k to the interleaved one of llama GGUFs."""
    return (
        rows.reshape(heads, 2, rows.shape[0] // heads // 2, rows.shape[1])
        .swapaxes(1, 2)
        .reshape(rows.shape)
    )


def unpermute(rows, heads):
    return (
        rows.reshape(heads, rows.shape[0] // heads // 2, 2, rows.shape[1])
        .swapaxes(1, 2)
        .reshape(rows.shape)
    )


def heads_of(name, config):
    if config["model_type"] != "llama":
        return None
    if name.endswith("q_proj.weight"):
        return config["num_attention_heads"]
    return config["num_key_value_heads"] if name.endswith("k_proj.weight") else None


def gguf_name(name):
    arch = gguf.MODEL_ARCH.QWEN3
    mapped = gguf.get_tensor_name_map(arch, 8).get_name(name, try_suffixes=(".weight",))
    assert mapped is not None, name
    return mapped


def write_gguf(path, config, tensors, type_of, tokenizer=None):
    """Returns the dequantised values under Hugging Face's names."""
    arch = config["model_type"]
    writer = gguf.GGUFWriter(path, arch)
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(config["head_dim"])
    writer.add_value_length(config["head_dim"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    rope = config.get("rope_parameters", config)
    writer.add_rope_freq_base(float(rope["rope_theta"]))
    if tokenizer:
        tokenizer(writer)
    writer.add_eos_token_id(config["eos_token_id"])
    dequantised = {}
    for name, tensor in tensors.items():
        heads = heads_of(name, config)
        values = tensor.float().numpy()
        stored = permute(values, heads) if heads else values
        kind = type_of(name) if stored.ndim == 2 else Type.F32
        data = gguf.quants.quantize(np.ascontiguousarray(stored), kind)
        writer.add_tensor(gguf_name(name), data, raw_dtype=kind)
        back = gguf.quants.dequantize(data, kind).reshape(stored.shape)
        dequantised[name] = torch.from_numpy(
            np.ascontiguousarray(unpermute(back, heads) if heads else back).astype(np.float32)
        )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return dequantised


def byte_characters():
    """GPT-2's printable stand-ins of the 256 bytes, in byte order."""
    plain = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    extra = iter(range(256, 512))
    return [chr(b) if b in plain else chr(next(extra)) for b in range(256)]


def small_tokenizer(writer):
    tokens = byte_characters() + ["he", "<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    tokens += [f"[PAD{i}]" for i in range(len(tokens), QWEN3["vocab_size"])]
    types = [gguf.TokenType.NORMAL] * 257 + [gguf.TokenType.CONTROL] * 3
    types += [gguf.TokenType.UNUSED] * (len(tokens) - len(types))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges(["h e"])
    writer.add_bos_token_id(257)
    writer.add_pad_token_id(257)


def block_type(name):
    kinds = {"q_proj": Type.Q4_0, "k_proj": Type.Q4_1, "v_proj": Type.Q8_0, "o_proj": Type.F16,
             "gate_proj": Type.Q4_0, "up_proj": Type.Q4_1, "down_proj": Type.BF16,
             "embed_tokens": Type.Q8_0, "lm_head": Type.F32}
    return kinds[name.split(".")[-2]]


def main():
    out = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "tests/golden/run")
    llama, qwen3 = weights(LLAMA, 1), {k: v.bfloat16() for k, v in weights(QWEN3, 2).items()}

    (out / "llama").mkdir(parents=True, exist_ok=True)
    (out / "llama/config.json").write_text(json.dumps(LLAMA, indent=2) + "\n")
    save_file(llama, out / "llama/model.safetensors", metadata={"format": "pt"})

    (out / "qwen3").mkdir(parents=True, exist_ok=True)
    (out / "qwen3/config.json").write_text(json.dumps(QWEN3, indent=2) + "\n")
    names = sorted(qwen3)
    index = {}
    for i, part in enumerate((names[: len(names) // 2], names[len(names) // 2 :])):
        shard = f"model-{i + 1:05}-of-00002.safetensors"
        save_file({n: qwen3[n] for n in part}, out / "qwen3" / shard, metadata={"format": "pt"})
        index |= dict.fromkeys(part, shard)
    total = sum(t.numel() * 2 for t in qwen3.values())
    (out / "qwen3/model.safetensors.index.json").write_text(
        json.dumps({"metadata": {"total_size": total}, "weight_map": index}, indent=2) + "\n"
    )

    write_gguf(out / "llama_f32.gguf", LLAMA, llama, lambda name: Type.F32)
    dequantised = write_gguf(out / "llama_quantised.gguf", LLAMA, llama, block_type)
    save_file(dequantised, out / "llama_quantised.safetensors")
    write_gguf(out / "qwen3_f16.gguf", QWEN3, qwen3, lambda name: Type.F16, small_tokenizer)


if __name__ == "__main__":
    main()
