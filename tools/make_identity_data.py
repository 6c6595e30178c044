#!/usr/bin/env python3
"""Writes configs/whoami.tsv: questions about the assistant's identity, and questions that are close to them.

    make_identity_data.py configs/whoami.tsv

The questions and answers are in identity_questions.py. This adds other spellings and settings to some of
them, alike for both classes so that none of it gives a class away. Another spelling is left out when the
split (is_held_out of train/data_file.h) would put it on the other side than the question it was made from:
what is held out has no relative in training.
"""

import pathlib
import random
import sys

import identity_questions

HOLDOUT_PERCENT = 20
HEADER = """\
# Who the assistant is (class A), and questions that are close to that and are not (class C), each kind of A
# with its twin: Who are you? / Who am I?, 你是誰？ / 我是誰？. Written for this project, under its licence;
# made by tools/make_identity_data.py, which is where to change it. doc/identity.md says how it is used.
#
# prompt<TAB>answer. "#!group CLASS KIND LANGUAGE" names what follows. Of the lines behind "#!holdout 20" a fifth,
# by a hash of the prompt, is never trained; the plainest questions come first and always are.
#!define name Orvena
#!define maker Quillmark
"""
PREFIXES = {
    "en": ["Hi! ", "Hello, ", "Hey. ", "Good morning. ", "Quick question: ", "One more thing: ", "OK, ",
           "Thanks. Now, ", "I have a question. ", "Before we go on: ", "Just curious: ", "Excuse me, ",
           "Hi there, nice weather today. ", "I just opened this page. ", "Sorry to bother you. "],
    "zh-TW": ["嗨，", "你好，", "早安！", "請問一下，", "想問一下，", "對了，", "不好意思，", "好，", "我有個問題：", "哈囉！"],
}
SUFFIXES = {
    "en": [" Please answer in one sentence.", " Be brief.", " Just curious.", " Thanks!", " Answer honestly.",
           " Keep it short.", " I really want to know.", " Tell me in plain words."],
    "zh-TW": ["請簡短回答。", "謝謝！", "用一句話回答。", "我只是好奇。", "老實說。"],
}


def letters(prompt):
    """What the split sees of a prompt."""
    kept = ""
    for character in prompt:
        if character.isascii():
            kept += character.lower() if character.isalnum() else ""
        elif not is_cjk_punctuation(ord(character)):
            kept += character
    return kept


def place(prompt):
    """is_held_out's number from 0 to 99."""
    value = 0xCBF29CE484222325
    for byte in letters(prompt).encode():
        value = ((value ^ byte) * 0x100000001B3) % 2**64
    return (value >> 32) % 100


def is_cjk_punctuation(point):
    ranges = [(0x3000, 0x303F), (0xFF00, 0xFF0F), (0xFF1A, 0xFF20), (0x2018, 0x201F), (0x2026, 0x2026)]
    return any(first <= point <= last for first, last in ranges)


def held_out(prompt):
    return place(prompt) < HOLDOUT_PERCENT


def with_typo(text, draw):
    """Two neighbouring letters of a word exchanged, or one lost."""
    places = [i for i in range(1, len(text) - 2) if text[i : i + 2].isascii() and text[i : i + 2].isalpha()]
    if not places:
        return text
    i = draw.choice(places)
    return text[:i] + text[i + 1] + text[i] + text[i + 2 :] if draw.random() < 0.5 else text[:i] + text[i + 1 :]


def spellings(prompt, language, exact, draw):
    """Up to three other ways to put the question; `exact`: its letters stay, because the answer repeats them."""
    lower_first = prompt[0].lower() + prompt[1:] if not prompt.startswith(("I ", "I'", "ChatGPT")) else prompt
    prefix = draw.choice(PREFIXES[language])
    joined = prefix + (lower_first if prefix.rstrip()[-1] in ",:" else prompt)
    ways = [joined, prompt + draw.choice(SUFFIXES[language])]
    if exact or "{" in prompt:
        ways += [prompt.rstrip("?.!？。！")]
    elif language == "en":
        ways += [prompt.lower().rstrip("?.!"), with_typo(prompt, draw), prompt.upper(), prompt.rstrip("?.!") + "???"]
    else:
        ways += [prompt.rstrip("？。！"), prompt.rstrip("？。！") + "？？", prompt.replace("？", "?")]
    return draw.sample(ways, 2) + ([ways[0]] if draw.random() < 0.3 else [])


def answered(group, entry, number):
    """(question, answer) of an entry."""
    if isinstance(entry, tuple):
        return entry
    return entry, group["answers"][number % len(group["answers"])]


def rows(group, language, draw):
    """(prompt, answer) of a kind in one language, the same prompt once."""
    seen = set()
    for number, entry in enumerate(group["questions"]):
        exact = isinstance(entry, tuple)
        question, _ = answered(group, entry, number)
        for i, spelling in enumerate([question, *spellings(question, language, exact, draw)]):
            if spelling in seen or held_out(spelling) != held_out(question):
                continue
            seen.add(spelling)
            yield spelling, answered(group, entry, number + i)[1]


def simplified(text):
    for word, other in identity_questions.SIMPLIFIED_WORDS.items():
        text = text.replace(word, other)
    return text.translate(identity_questions.SIMPLIFIED).replace("あなたは谁", "あなたは誰")


def escaped(text):
    text = text.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n")
    return "\\" + text if text.startswith("#") else text


def main():
    draw = random.Random(1)
    plain, split = [], []
    for (label, kind, language), group in identity_questions.GROUPS.items():
        own = [answered(group, entry, number) for number, entry in enumerate(group["plain"])]
        others = list(rows(group, language, draw))
        plain.append((f"{label} {kind} {language}", own))
        split.append((f"{label} {kind} {language}", others))
        if language == "zh-TW":
            name = f"{label} {kind} zh-CN"
            plain.append((name, [(simplified(p), simplified(a)) for p, a in own]))
            # The split of the simplified form is its own; what would then have a relative is left out.
            pairs = [(p, a) for p, a in others if held_out(simplified(p)) == held_out(p)]
            split.append((name, [(simplified(p), simplified(a)) for p, a in pairs]))
    always = {letters(prompt) for _, pairs in plain for prompt, _ in pairs}
    split = [(name, [pair for pair in pairs if letters(pair[0]) not in always]) for name, pairs in split]
    with open(sys.argv[1], "w") as out:
        out.write(HEADER)
        for percent, groups in ((0, plain), (HOLDOUT_PERCENT, split)):
            out.write(f"#!holdout {percent}\n")
            for name, pairs in groups:
                if pairs:
                    out.write(f"#!group {name}\n")
                out.writelines(f"{escaped(p)}\t{escaped(a)}\n" for p, a in pairs)
    print(pathlib.Path(sys.argv[1]).read_text().count("\t"), "examples")


if __name__ == "__main__":
    main()
