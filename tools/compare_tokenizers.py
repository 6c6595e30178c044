#!/usr/bin/env python3
"""Our token ids against the Python package `tokenizers`, on made strings.

    compare_tokenizers.py TOKENIZE_LINES SOURCE [SEED [COUNT]]

SOURCE: a folder with tokenizer.json, a tokenizer.json.xz, or a GGUF (whose tokenizer.json we make).

Also checks what the ids decode to: NFC of the text where the tokenizer normalises (Qwen3; the NFC of
the package, which knows Unicode 9), and what the package decodes to everywhere.
"""

import json
import lzma
import pathlib
import subprocess
import sys
import tempfile

import make_tokenizer_strings
from tokenizers import Tokenizer


def prepare(program: str, source: pathlib.Path, work: pathlib.Path) -> pathlib.Path:
    if source.is_dir():
        return source
    if source.suffix == ".xz":
        text = lzma.decompress(source.read_bytes())
    else:
        text = subprocess.run([program, source], capture_output=True, check=True).stdout
    (work / "tokenizer.json").write_bytes(text)
    return work


def main() -> int:
    with tempfile.TemporaryDirectory() as work:
        return compare(sys.argv[1], prepare(sys.argv[1], pathlib.Path(sys.argv[2]), pathlib.Path(work)))


def compare(program: str, folder: pathlib.Path) -> int:
    seed = int(sys.argv[3]) if len(sys.argv) > 3 else 1
    count = int(sys.argv[4]) if len(sys.argv) > 4 else 20000
    peer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    normalises = peer.normalizer is not None
    texts = list(make_tokenizer_strings.strings(seed, count))
    lines = subprocess.run(
        [program, folder], input="\n".join(map(json.dumps, texts)) + "\n", capture_output=True,
        text=True, check=True, encoding="utf-8",
    ).stdout.splitlines()
    assert len(lines) == len(texts), f"{len(texts)} lines in, {len(lines)} out"

    peer.encode_special_tokens = False
    expected = [e.ids for e in peer.encode_batch(texts, add_special_tokens=False)]
    peer.encode_special_tokens = True
    expected_plain = [e.ids for e in peer.encode_batch(texts, add_special_tokens=False)]
    decoded = peer.decode_batch(expected, skip_special_tokens=False)
    wrong = 0
    for text, line, ids, plain, peer_text in zip(texts, lines, expected, expected_plain, decoded):
        ours, ours_plain, ours_text = map(json.loads, line.split("\t"))
        problems = []
        if ours != ids:
            problems.append(f"ids {ours} instead of {ids}")
        if ours_plain != plain:
            problems.append(f"ids without specials {ours_plain} instead of {plain}")
        if ours_text != peer_text:
            problems.append(f"decodes to {ours_text!r} instead of {peer_text!r}")
        if normalises and ours_text != peer.normalizer.normalize_str(text):
            problems.append(f"decodes to {ours_text!r}, not to the text's NFC")
        if problems:
            wrong += 1
            if wrong <= 10:
                print(f"{text!r}: {'; '.join(problems)}")
    print(f"{sys.argv[2]}: {len(texts) - wrong} of {len(texts)} strings equal")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
