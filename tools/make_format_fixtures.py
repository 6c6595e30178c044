#!/usr/bin/env python3
"""Makes tests/golden/formats and the seeds in tests/fuzz/corpus: small files by independent writers.

    pip install numpy==2.3.5 gguf==0.19.0 safetensors==0.8.0 torch==2.11.0
"""

import json
import pathlib
import struct

import gguf
import numpy as np
import safetensors.numpy
import torch

ROOT = pathlib.Path(__file__).parents[1] / "tests"
GOLDEN = ROOT / "golden/formats"
TYPES = ["F32", "F16", "BF16", "Q4_0", "Q4_1", "Q8_0", "Q6_K", "NVFP4"]


def leb(value: int) -> bytes:
    out = bytearray()
    while True:
        out.append(value & 0x7F | (0x80 if value > 0x7F else 0))
        value >>= 7
        if not value:
            return bytes(out)


def dat_entry(name: str, code: int, shape: list[int], payload: bytes) -> bytes:
    return (leb(len(name.encode())) + name.encode() + leb(code) + leb(len(shape))
            + b"".join(map(leb, shape)) + payload)


def torchsharp_batch_norm() -> bytes:
    """The layout of TorchSharp's own bug510.dat: a convolution and a batch norm with its counter."""
    f32 = lambda n, start: np.arange(start, start + n, dtype="<f4").tobytes()
    return leb(6) + b"".join([
        dat_entry("0.weight", 6, [32, 1, 3], f32(96, 0)),
        dat_entry("1.weight", 6, [32], f32(32, 1000)),
        dat_entry("1.bias", 6, [32], f32(32, 2000)),
        dat_entry("1.running_mean", 6, [32], f32(32, 3000)),
        dat_entry("1.running_var", 6, [32], f32(32, 4000)),
        dat_entry("1.num_batches_tracked", 4, [], struct.pack("<q", 510)),
    ])


@torch.jit.script
def scalar_type(x: torch.Tensor) -> int:
    return x.dtype


def every_scalar_type() -> bytes:
    """One entry of the values 0 and 1 a type, named as torch names it; libtorch itself numbers it."""
    names = ["uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64", "complex64",
             "complex128", "bool", "bfloat16"]
    entries = []
    for name in names:
        tensor = torch.tensor([0, 1]).to(getattr(torch, name))
        entries.append(dat_entry(name, scalar_type(tensor), [2],
                                 tensor.view(torch.uint8).numpy().tobytes()))
    return leb(len(names)) + b"".join(entries)


def make_gguf(path: pathlib.Path) -> None:
    rng = np.random.default_rng(3)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_uint8("t.u8", 200)
    writer.add_int8("t.i8", -100)
    writer.add_uint16("t.u16", 60000)
    writer.add_int16("t.i16", -30000)
    writer.add_uint32("t.u32", 4000000000)
    writer.add_int32("t.i32", -2000000000)
    writer.add_uint64("t.u64", 1 << 62)
    writer.add_int64("t.i64", -(1 << 62))
    writer.add_float32("t.f32", 0.5)
    writer.add_float64("t.f64", 1e300)
    writer.add_bool("t.bool", True)
    writer.add_string("t.string", "你好")
    writer.add_array("t.ints", [1, -2, 3])
    writer.add_array("t.floats", [0.5, -1.5])
    writer.add_array("t.strings", ["a", "", "ü"])
    expected = {}
    for name in TYPES:
        kind = getattr(gguf.GGMLQuantizationType, name)
        values = rng.standard_normal((3, 512)).astype(np.float32)
        if name == "F32":
            data, back = values, values
        elif name == "F16":
            data = values.astype(np.float16)
            back = data.astype(np.float32)
        elif name == "Q6_K":  # the package has no quantiser for it: any bits are valid
            raw = rng.integers(0, 256, (3, 512 // 256 * 210), dtype=np.uint8)
            raw[:, 208:210] = np.frombuffer(np.float16(0.01).tobytes(), np.uint8)
            raw[:, 418:420] = np.frombuffer(np.float16(-0.02).tobytes(), np.uint8)
            data, back = raw, gguf.quants.dequantize(raw, kind)
        elif name == "NVFP4":  # nor for this; its -0 (code 8) is the package's 0
            raw = rng.integers(0, 0x7F, (3, 8, 36), dtype=np.uint8)
            codes = rng.integers(0, 15, (2, 3, 8, 32), dtype=np.uint8)
            codes += codes >= 8
            raw[:, :, 4:] = codes[0] | codes[1] << 4
            data = raw.reshape(3, 8 * 36)
            back = gguf.quants.dequantize(data, kind)
        else:
            data = gguf.quants.quantize(values, kind)
            back = gguf.quants.dequantize(data, kind)
        writer.add_tensor(f"w.{name}", data, raw_dtype=kind)
        expected[name] = np.ascontiguousarray(back, dtype=np.float32)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with open(path.with_suffix(".f32"), "wb") as out:
        for name in TYPES:
            out.write(expected[name].astype("<f4").tobytes())


def small_gguf(path: pathlib.Path) -> bytes:
    """A whole file of 700 bytes for the fuzzer: a tokenizer and two tensors."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(["<|im_end|>", "a", "b", "ab"])
    writer.add_token_types([3, 1, 1, 1])
    writer.add_token_merges(["a b"])
    writer.add_eos_token_id(0)
    writer.add_chat_template("{{ messages }}")
    writer.add_tensor("norm", np.arange(4, dtype=np.float32))
    kind = gguf.GGMLQuantizationType.Q4_0
    values = np.linspace(-1, 1, 64, dtype=np.float32).reshape(2, 32)
    writer.add_tensor("w", gguf.quants.quantize(values, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path.read_bytes()


# Each with the characters that its recognition asks for, in the fewest bytes.
SMOLLM_TEMPLATE = ("loop.first and messages[0]['role'] != 'system'<|im_start|>system\\nHi<|im_end|>"
                   "message['role']add_generation_prompt")


def main() -> None:
    GOLDEN.mkdir(parents=True, exist_ok=True)
    (GOLDEN / "torchsharp.dat").write_bytes(torchsharp_batch_norm())
    (GOLDEN / "scalar_types.dat").write_bytes(every_scalar_type())
    make_gguf(GOLDEN / "types.gguf")
    tensors = {
        "f32": np.arange(6, dtype=np.float32).reshape(2, 3),
        "f16": np.array([0.5, -2], dtype=np.float16),
        "i64": np.array(-7, dtype=np.int64),
        "empty": np.zeros((0, 4), dtype=np.float32),
        "bool": np.array([True, False]),
    }
    safetensors.numpy.save_file(tensors, GOLDEN / "types.safetensors", metadata={"format": "np"})

    corpus = {
        "dat_fuzz": {"torchsharp.dat": torchsharp_batch_norm(),
                     "tiny.dat": leb(1) + dat_entry("a", 0, [2], b"xy")},
        "safetensors_fuzz": {"types.safetensors": (GOLDEN / "types.safetensors").read_bytes()},
        "gguf_fuzz": {"small.gguf": small_gguf(ROOT / "fuzz/corpus/gguf_fuzz/small.gguf"),
                      "head.gguf": (GOLDEN / "types.gguf").read_bytes()[:900]},
        "tokenizer_fuzz": {"template.jinja": SMOLLM_TEMPLATE.encode(), "split.json": json.dumps({
            "normalizer": None,
            "pre_tokenizer": {"type": "Split", "pattern": {"Regex": "\\s+(?!\\S)|[^\\s]+"},
                              "behavior": "Isolated", "invert": False},
            "model": {"type": "BPE", "ignore_merges": True, "vocab": {"a": 0, "\u0120": 1, "\u0120a": 2},
                      "merges": ["\u0120 a"]},
            "added_tokens": [{"id": 2, "content": "<y>", "special": False, "normalized": True}],
            "decoder": {"type": "ByteLevel"}, "post_processor": None}).encode(),
            "small.json": json.dumps({
            "normalizer": {"type": "NFC"},
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
                {"type": "Digits", "individual_digits": True},
                {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}]},
            "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": [["a", "b"]]},
            "added_tokens": [{"id": 3, "content": "<x>", "special": True}]}).encode()},
    }
    for target, files in corpus.items():
        folder = ROOT / "fuzz/corpus" / target
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in files.items():
            (folder / name).write_bytes(data)


if __name__ == "__main__":
    main()
