#!/usr/bin/env python3
"""Strings to try a tokenizer with: a JSON string a line. make_tokenizer_strings.py [SEED] [COUNT]

Many scripts, emoji sequences, combining marks, control characters, CRLF, NBSP, U+017F, digits of other
scripts, long runs, whole and partial special tokens, random code points. Code points that Python's
Unicode does not know are left out: the libraries on the two sides know different versions of it.
"""

import json
import random
import sys
import unicodedata

SPECIALS = [
    "<|im_start|>", "<|im_end|>", "<|endoftext|>", "<think>", "</think>", "<tool_call>",
    "<|vision_start|>", "<repo_name>", "<jupyter_code>", "<|fim_prefix|>", "<file_sep>",
]
WORDS = """the quick brown fox can't won't they'll I'm we've he'd it's DON'T IT'S you'Re naïve café
Straße ﬁne groß İstanbul ſchon 'ſ 'ſo x'ſ Kelvin K 你是誰 我是誰？ 你好，世界 正體中文 简体中文 人工智慧 こんにちは
カタカナ 안녕하세요 한국어 Привет мир Ёлка ёж Ελληνικά Αθήνα עברית שָׁלוֹם العربية مَرْحَبًا हिन्दी नमस्ते தமிழ் ไทยสวัสดี မြန်မာ ខ្មែរ
ქართული Հայերեն ᏣᎳᎩ አማርኛ ᠮᠣᠩᠭᠣᠯ x=1; for(i=0;i<10;++i){a[i]+=2;} https://example.org/?q=1&r=%20 user@example.org
3.14159 1,000,000 ١٢٣٤ १२३ ５６７ Ⅷ ½ ² x² ① 𝟘𝟙 𝔘𝔫𝔦 e\u0301 a\u0308\u0323 Å \u212b \u1e9b\u0323 \ufb01 q\u0307\u0323 한 \u1100\u1161\u11a8""".split()
SPACES = [" ", "  ", "   ", "\n", "\r\n", "\r", "\t", "\n\n", " \n ", "\u00a0", "\u3000", "\u2003",
          "\u200b", "\u180e", "\u0085", "\u2028", "\u2029", "\ufeff", "\v", "\f", "\x1c", "\x1f"]
EMOJI = ["😀", "👍🏽", "👨‍👩‍👧‍👦", "🏳️‍🌈", "🇹🇼", "❤️", "☕", "🛸", "1️⃣", "🧑🏿‍🚀"]


def known(code: int) -> bool:
    return unicodedata.category(chr(code)) not in ("Cn", "Cs")


def code_points(rng: random.Random, count: int, below: int) -> str:
    out = []
    while len(out) < count:
        code = rng.randrange(below)
        if known(code):
            out.append(chr(code))
    return "".join(out)


def piece(rng: random.Random) -> str:
    kind = rng.randrange(16)
    if kind < 5:
        return rng.choice(WORDS)
    if kind < 8:
        return rng.choice(SPACES)
    if kind == 8:
        return rng.choice(EMOJI)
    if kind == 9:
        special = rng.choice(SPECIALS)
        return special if rng.random() < 0.5 else special[rng.randrange(3):][: rng.randrange(1, 14)]
    if kind == 10:
        return code_points(rng, rng.randrange(1, 8), 0x110000)
    if kind == 11:
        return code_points(rng, rng.randrange(1, 12), 0x3000)
    if kind == 12:
        return "".join(chr(rng.randrange(0x80)) for _ in range(rng.randrange(1, 12)))
    if kind == 13:
        return rng.choice("a .-=\n0é你 '\t") * rng.randrange(1, 60)
    if kind == 14:
        return rng.choice("aeiouAEIOUxyz가各") + code_points(rng, 1, 0x370)[-1] + chr(rng.randrange(0x300, 0x36F))
    return str(rng.randrange(10 ** rng.randrange(1, 12)))


def strings(seed: int, count: int):
    rng = random.Random(seed)
    yield from ["", " ", "\n", "'s", "'ſ", "a" * 5000, " " * 3000, "\u0301", *SPECIALS, *WORDS, *SPACES, *EMOJI]
    for _ in range(count):
        yield "".join(piece(rng) for _ in range(rng.randrange(1, 14)))


def main() -> None:
    seed = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 20000
    for text in strings(seed, count):
        print(json.dumps(text))


if __name__ == "__main__":
    main()
