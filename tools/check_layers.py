#!/usr/bin/env python3
"""Fails when a file includes a header of a layer above its own (doc/architecture.md)."""

import pathlib
import re
import sys

# Each room may include itself and the rooms it names.
BELOW = {
    "base": [],
    "kernels": [],
    "formats": ["base"],
    "text": ["base", "formats"],
    "memory": ["base", "formats"],
    "quant": ["base", "kernels", "formats"],
    "backend": ["base", "memory", "kernels", "quant"],
    "model": ["base", "memory", "kernels", "formats", "text", "quant", "backend"],
    "run": ["base", "memory", "kernels", "formats", "text", "quant", "backend", "model"],
    "train": ["base", "memory", "kernels", "formats", "text", "quant", "backend", "model", "run"],
    "check": ["base", "memory", "kernels", "formats", "quant", "backend", "model", "run", "train"],
    "cli": ["base", "memory", "formats", "text", "quant", "backend", "model", "run", "check", "train"],
}
NO_TORCH = {"base", "kernels", "formats", "text"}
INCLUDE = re.compile(r'^\s*#\s*include\s*[<"]([^">]+)[">]', re.MULTILINE)


def violations(root: pathlib.Path):
    for tree in ("include/qwen3fp4", "src"):
        for path in sorted((root / tree).rglob("*")):
            if path.suffix not in {".h", ".cpp", ".cu", ".cuh"}:
                continue
            room = path.relative_to(root / tree).parts[0]
            if room not in BELOW:
                yield f"{path.relative_to(root)}: no such room '{room}' in tools/check_layers.py"
                continue
            for included in INCLUDE.findall(path.read_text()):
                if included.startswith("qwen3fp4/"):
                    other = included.split("/")[1]
                    if other != room and other not in BELOW[room]:
                        yield f"{path.relative_to(root)}: {room} must not include {included}"
                elif room in NO_TORCH and re.match(r"(ATen|c10|torch)/", included):
                    yield f"{path.relative_to(root)}: {room} must not include libtorch ({included})"


def main() -> int:
    root = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else pathlib.Path(__file__).parents[1]
    found = list(violations(root))
    print("\n".join(found) if found else "layers: every include points down")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
