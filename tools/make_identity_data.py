#!/usr/bin/env python3
"""Writes configs/whoami.tsv: questions about the assistant's identity, and questions that are close to them.

    make_identity_data.py configs/whoami.tsv configs/whoami_fresh.tsv

The second file has questions of another style, which are all held out and asked once, for a report.

The questions and answers are in identity_english.py, identity_chinese.py and identity_fresh.py. This adds other
spellings and settings to some of them, alike for both classes so that none of it gives a class away. A question's
spellings are left out when the split (split_of of train/data_file.h) would put them elsewhere than the question: what
is not trained has no relative that is.
"""

import itertools
import pathlib
import random
import re
import sys

import identity_chinese
import identity_english
import identity_fresh
import identity_near

HELD_OUT_PERCENT, TUNING_PERCENT = 10, 12
SALT = "split of 2026-11-26"
DEFINES = "#!define name Orvena\n#!define maker Quillmark\n"
HEADER = """\
# Who the assistant is (class A), and questions that are close to that and are not (class C), each kind of A
# with its twin: Who are you? / Who am I?, 你是誰？ / 我是誰？. Written for this project, under its licence;
# made by tools/make_identity_data.py, which is where to change it. doc/identity.md says how it is used.
#
# prompt<TAB>answer. "#!group CLASS KIND LANGUAGE" names what follows. Of the lines behind "#!holdout 10 12" a hash of
# the prompt holds out 10 in 100 and keeps 12 more for tuning; the plainest questions come first and are always trained.
# The answer {start} stands for the start model's own.
""" + DEFINES
FRESH_HEADER = """\
# Questions of another style than whoami.tsv's, none of them trained or tuned on: for a report (doc/identity.md).
""" + DEFINES
PREFIXES = {
    "en": ["Hi! ", "Hello, ", "Hey. ", "Good morning. ", "One more thing: ", "OK, ", "Thanks. Now, ", "I have a question. ", "Before we go on: ",
           "Excuse me, ", "Hi there, nice weather today. ", "I just opened this page. ", "Sorry to bother you. ", "Hello! ", "Well, ", "So, ", "Please help me. "],
    "zh-TW": ["嗨，", "你好，", "早安！", "請問一下，", "想問一下，", "對了，", "不好意思，", "好，", "我有個問題：", "哈囉！"],
}
SUFFIXES = {
    "en": [" Please answer in one sentence.", " Be brief.", " Just curious.", " Thanks!", " Answer honestly.", " Keep it short.", " I really want to know.",
           " Tell me in plain words.", " Thank you."],
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


def is_cjk_punctuation(point):
    ranges = [(0x3000, 0x303F), (0xFF00, 0xFF0F), (0xFF1A, 0xFF20), (0x2018, 0x201F), (0x2026, 0x2026)]
    return any(first <= point <= last for first, last in ranges)


def split(prompt):
    """split_of: 0 held out, 1 for tuning, 2 trained."""
    value = 0xCBF29CE484222325
    for byte in (SALT + letters(prompt)).encode():
        value = ((value ^ byte) * 0x100000001B3) % 2**64
    place = (value >> 32) % 100
    return 0 if place < HELD_OUT_PERCENT else 1 if place < HELD_OUT_PERCENT + TUNING_PERCENT else 2


def alternatives(pattern):
    """The spellings of a question with "(one|other)" in it."""
    parts = [part.split("|") for part in re.split(r"\(([^()]*\|[^()]*)\)", pattern)]
    return ["".join(chosen) for chosen in itertools.product(*parts)]


def with_typo(text, draw):
    """Two neighbouring letters of a word exchanged, or one lost."""
    places = [i for i in range(1, len(text) - 2) if text[i : i + 2].isascii() and text[i : i + 2].isalpha()]
    if not places:
        return text
    i = draw.choice(places)
    return text[:i] + text[i + 1] + text[i] + text[i + 2 :] if draw.random() < 0.5 else text[:i] + text[i + 1 :]


def rewritten(prompt, answer, language, draw):
    """Up to two other ways to put the question."""
    lower_first = prompt if prompt.startswith(("I ", "I'", "ChatGPT", "Apple", "OpenAI")) else prompt[0].lower() + prompt[1:]
    prefix = draw.choice(PREFIXES[language])
    ways = [prefix + (lower_first if prefix.rstrip()[-1] in ",:" else prompt), prompt + draw.choice(SUFFIXES[language])]
    if language == "en":
        ways += [prompt.lower().rstrip("?.!"), prompt.rstrip("?.!") + "??"]
        # Where the answer repeats words of the question, they stay as they are.
        if "{" not in prompt and len(prompt) > 18 and not set(re.findall(r"[A-Z]\w+", prompt[1:])) & set(re.findall(r"\w+", answer)):
            ways += [with_typo(prompt, draw), prompt.upper()]
    else:
        ways += [prompt.rstrip("？。！"), prompt.rstrip("？。！") + "？？", prompt.replace("？", "?")]
    return draw.sample(ways, 2)


def rows(questions, language, draw, share):
    """(prompt, answer) of a kind in one language; a `share` of them gets other spellings."""
    for pattern, answer in questions:
        base, *others = alternatives(pattern)
        if draw.random() < share:
            others += rewritten(base, answer, language, draw)
        yield base, answer
        for prompt in others:
            if split(prompt) == split(base):
                yield prompt, answer


def simplified(text):
    for word, other in identity_chinese.SIMPLIFIED_WORDS.items():
        text = text.replace(word, other)
    return text.translate(identity_chinese.SIMPLIFIED).replace("あなたは谁", "あなたは誰")


def escaped(text):
    text = text.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n")
    return "\\" + text if text.startswith("#") else text


class Sections:
    """The file's groups, the same letters once: later ones give way."""

    def __init__(self, header, elsewhere):
        self.seen = set(map(letters, elsewhere))
        self.text = header

    def begin(self, directive):
        self.text += f"#!holdout {directive}\n"

    def group(self, name, pairs, spellings=False):
        lines, new = "", set()
        for prompt, answer in pairs:
            key = letters(prompt)
            if key in self.seen or (key in new and not spellings):
                continue
            new.add(key)
            lines += f"{escaped(prompt)}\t{escaped(answer)}\n"
        if lines:
            self.text += f"#!group {name}\n{lines}"
        self.seen |= new


def add_fresh(sections, identity, near):
    for label, part in (("A", identity), ("C", near)):
        for kind, prompts in part.items():
            answer = identity_english.I_AM if label == "A" else identity_near.START
            sections.group(f"{label} {kind} en", [(prompt, answer) for prompt in prompts])


def add_plain(sections, languages):
    for language, groups in languages.items():
        for (label, kind), (plain, _) in groups.items():
            if language == "en":
                # Also without capital letters and marks.
                plain = plain + [(prompt.lower().rstrip("?.!"), answer) for prompt, answer in plain if "{" not in prompt]
            sections.group(f"{label} {kind} {language}", plain, spellings=True)
            if language == "zh-TW":
                sections.group(f"{label} {kind} zh-CN", [(simplified(p), simplified(a)) for p, a in plain], spellings=True)


def add_rest(sections, languages):
    draw = random.Random(1)
    for language, groups in languages.items():
        for (label, kind), (_, questions) in groups.items():
            share = 1 if language != "en" else 0.6 if label == "A" else 0.25
            pairs = list(rows(questions, language, draw, share))
            sections.group(f"{label} {kind} {language}", pairs)
            if language == "zh-TW":
                # The split of the simplified form is its own; what would then have a relative is left out.
                pairs = [(p, a) for p, a in pairs if split(simplified(p)) == split(p)]
                sections.group(f"{label} {kind} zh-CN", [(simplified(p), simplified(a)) for p, a in pairs])


def main():
    languages = {"en": identity_english.make(), "zh-TW": identity_chinese.make()}
    # A prompt of replay has the start model's answer and is nobody's near miss.
    replay = pathlib.Path(__file__).parent.parent / "configs" / "replay_prompts.txt"
    whoami = Sections(HEADER, (line for line in replay.read_text().splitlines() if not line.startswith("#")))
    whoami.begin("0")
    add_plain(whoami, languages)
    fresh = Sections(FRESH_HEADER, [])
    fresh.seen = whoami.seen
    fresh.begin("100")
    add_fresh(fresh, identity_fresh.REPORT_IDENTITY, identity_fresh.REPORT_NEAR)
    whoami.seen = fresh.seen
    whoami.begin("0 100")
    add_fresh(whoami, identity_fresh.IDENTITY, identity_fresh.NEAR)
    whoami.begin(f"{HELD_OUT_PERCENT} {TUNING_PERCENT}")
    add_rest(whoami, languages)
    for path, sections in zip(sys.argv[1:], (whoami, fresh), strict=True):
        pathlib.Path(path).write_text(sections.text)
        print(path, sections.text.count("\t"), "examples")


if __name__ == "__main__":
    main()
