#!/usr/bin/env python3
"""Makes tests/golden/quant/{nvfp4,nf4}.bin: what torchao and bitsandbytes make of random weights.

    pip install torch==2.11.0 torchao==0.18.0 bitsandbytes==0.50.0 numpy
    tools/make_quant_fixtures.py

A file is a row of records, each a little-endian u64 byte count and the bytes. A case is:
  name, i64 rows and cols, f32 weights, and then
  nvfp4: f32 tensor scale; codes and scales of the two-level form; codes, scales and dequantised f32
         of the single-level form
  nf4:   codes, f32 absmax, dequantised f32
"""

import pathlib
import struct

import numpy as np
import torch
from bitsandbytes.functional import dequantize_4bit, get_4bit_type, quantize_4bit
from torchao.prototype.mx_formats.nvfp4_tensor import (
    NVFP4Tensor,
    nvfp4_quantize,
    per_tensor_amax_to_scale,
)

OUT = pathlib.Path(__file__).parent.parent / "tests" / "golden" / "quant"


def weights(rng, rows, cols):
    """Name and f32 [rows, cols] of each kind of weight."""
    gauss = rng.standard_normal((rows, cols))
    yield "gauss 0.02", gauss * 0.02
    yield "gauss 0.005", rng.standard_normal((rows, cols)) * 0.005
    yield "gauss 1", rng.standard_normal((rows, cols))
    yield "heavy tails", rng.standard_t(2, (rows, cols)) * 0.01
    spread = rng.standard_normal((rows, cols)) * 10.0 ** rng.uniform(-12, 2, (rows, cols))
    yield "many magnitudes", spread
    yield "subnormal", rng.standard_normal((rows, cols)) * 1e-39
    mixed = rng.standard_normal((rows, cols)) * np.where(rng.random((rows, cols)) < 0.5, 1e-41, 0.1)
    yield "subnormal beside normal", mixed
    yield "huge", np.clip(rng.standard_normal((rows, cols)) * 1e38, -3.4e38, 3.4e38)
    zeros = np.where(rng.random((rows, cols)) < 0.6, 0.0, gauss) * np.where(gauss < 0, -1.0, 1.0)
    zeros[: rows // 2] *= 0.0  # whole blocks of zeros of both signs
    yield "zeros", zeros
    # Everything a multiple of an eighth up to 6: with a block scale of 1, all of E2M1's ties.
    ties = rng.integers(-48, 49, (rows, cols)) / 8.0
    ties[:, ::16] = 6.0
    yield "ties", ties
    yield "bf16", torch.from_numpy(gauss * 0.03).bfloat16().float().numpy()
    outlier = rng.standard_normal((rows, cols)) * 1e-4
    outlier[0, 0] = -1000.0
    yield "one outlier", outlier


def nf4_borders(rng, rows, cols):
    """Values on the borders between two codes, in blocks of absmax 1 (so nothing is scaled)."""
    code = get_4bit_type("nf4", device="cpu")
    borders = (code[:-1] + code[1:]) / 2
    weight = borders[torch.from_numpy(rng.integers(0, 15, rows * cols))]
    weight[::64] = -1.0
    return weight.reshape(rows, cols)


def record(out, value):
    if isinstance(value, torch.Tensor):
        value = value.contiguous().view(torch.uint8).numpy().tobytes()
    out.write(struct.pack("<Q", len(value)) + value)


def begin_case(out, name, weight):
    record(out, name.encode())
    record(out, struct.pack("<qq", *weight.shape))
    record(out, weight)


def nvfp4_case(out, name, weight):
    scale = per_tensor_amax_to_scale(weight.abs().max())
    scales, codes = nvfp4_quantize(weight, 16, scale)
    scales1, codes1 = nvfp4_quantize(weight, 16)
    dequantised = NVFP4Tensor.to_nvfp4(weight).dequantize(torch.float32)
    finite = torch.isfinite((1.0 / scale) / scales.float()).all()
    if not finite:
        return  # torchao divides by zero there: our own rule, with its own test
    begin_case(out, name, weight)
    for value in (scale.reshape(1), codes, scales, codes1, scales1, dequantised):
        record(out, value)


def nf4_case(out, name, weight):
    codes, state = quantize_4bit(weight, blocksize=64, quant_type="nf4")
    begin_case(out, name, weight)
    for value in (codes, state.absmax, dequantize_4bit(codes, state)):
        record(out, value)


def main():
    rng = np.random.default_rng(20261124)
    OUT.mkdir(parents=True, exist_ok=True)
    with open(OUT / "nvfp4.bin", "wb") as out:
        for rows, cols in ((24, 64), (7, 208)):
            for name, weight in weights(rng, rows, cols):
                nvfp4_case(out, name, torch.from_numpy(weight.astype(np.float32)))
    with open(OUT / "nf4.bin", "wb") as out:
        for rows, cols in ((12, 128), (7, 90), (2, 31)):
            for name, weight in weights(rng, rows, cols):
                nf4_case(out, name, torch.from_numpy(weight.astype(np.float32)))
            nf4_case(out, "borders", nf4_borders(rng, rows, cols))
    for path in sorted(OUT.glob("*.bin")):
        print(path.name, path.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
