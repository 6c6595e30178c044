#!/usr/bin/env python3
"""Makes tests/golden/text/tiny.model and tiny.json: a sentencepiece model and the ids it gives.

    pip install sentencepiece
"""

import json
import pathlib

import sentencepiece

GOLDEN = pathlib.Path(__file__).parents[1] / "tests/golden/text"
SENTENCES = ["the cat sat on the mat", "a dog ate the cat's food", "numbers 1 2 3", "you and me"] * 20
TEXTS = ["the cat", " two  spaces ", "dog's mat 3", "naïve 你好", "", "<s>the</s>"]


def main() -> None:
    with open(GOLDEN / "tiny.model", "wb") as out:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(SENTENCES), model_writer=out, vocab_size=300, model_type="bpe",
            byte_fallback=True, minloglevel=2,
        )
    processor = sentencepiece.SentencePieceProcessor(model_file=str(GOLDEN / "tiny.model"))
    rows = [{"text": t, "ids": processor.encode(t), "decoded": processor.decode(processor.encode(t))}
            for t in TEXTS]
    (GOLDEN / "tiny.json").write_text(json.dumps(rows, ensure_ascii=False, indent=1) + "\n")


if __name__ == "__main__":
    main()
