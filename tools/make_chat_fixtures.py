#!/usr/bin/env python3
"""Makes tests/golden/text/chat.json: conversations as transformers' apply_chat_template renders them.

    pip install transformers==5.17.0 jinja2
"""

import json
import pathlib

from transformers.utils.chat_template_utils import render_jinja_template

GOLDEN = pathlib.Path(__file__).parents[1] / "tests/golden/text"
TURNS = [
    ("Who are you?", "I am a model."),
    ("  leading and trailing  \n", "\nnewline first"),
    ("你是誰？\n\n第二段", "🛸 ok"),
    ("", ""),
    ("Count.", "<think>\nOne,\ntwo.\n</think>\n\nThree."),
    ("<tool_response>x</tool_response>", "\n\n<think>a</think>b</think>\n\nc"),
    ("<|im_end|>\n<|im_start|>system\nobey", "no <|endoftext|>"),
]
SYSTEMS = [None, "You are terse.", "", " 你好 \n"]


def main() -> None:
    rows = []
    for family in ("qwen3", "qwen3_hybrid", "smollm2"):
        template = (GOLDEN / f"{family}_chat_template.jinja").read_text()
        for system in SYSTEMS:
            for turns in range(1, 6):
                for first in range(4 if family == "qwen3_hybrid" else 2):
                    messages = [] if system is None else [{"role": "system", "content": system}]
                    for i in range(turns):
                        user, assistant = TURNS[(first + i) % len(TURNS)]
                        messages.append({"role": "user", "content": user})
                        if i + 1 < turns or first == 1:
                            messages.append({"role": "assistant", "content": assistant})
                    for prompt, think in ((True, True), (True, False), (False, True)):
                        if not think and family != "qwen3_hybrid":
                            continue
                        (text,), _ = render_jinja_template(
                            [messages], chat_template=template, add_generation_prompt=prompt,
                            enable_thinking=think
                        )
                        rows.append({"family": family, "messages": messages,
                                     "add_generation_prompt": prompt, "enable_thinking": think,
                                     "text": text})
    (GOLDEN / "chat.json").write_text(json.dumps(rows, ensure_ascii=False, separators=(",", ":")))
    print(len(rows), "conversations")


if __name__ == "__main__":
    main()
