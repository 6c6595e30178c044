#!/usr/bin/env python3
"""English prose and manuals from Debian's packages in one .txt, for calibration and distillation.

    apt-get download python3.11-doc debian-handbook debian-reference-en debian-faq developers-reference
    tools/make_distillation_text.py documents.txt *.deb

Leaves out files about licences and changes, and every paragraph that speaks of a licence, so that a
licence's text stays good for evaluation. The same packages give the same file.
"""

import html
import pathlib
import re
import subprocess
import sys
import tempfile

LEFT_OUT_FILES = re.compile(r"licen[cs]e|copying|copyright|changelog|legal|gpl|genindex|search|/whatsnew/changelog",
                            re.IGNORECASE)
LEFT_OUT_PARAGRAPHS = re.compile(r"licen[cs]|copyright|warrant|redistribut|as is|patent", re.IGNORECASE)
OTHER_LANGUAGES = re.compile(r"/html/(?!en-US)[a-z]{2}-[A-Z]{2}/|\.(?!en)[a-z]{2}(-[a-z]{2})?\.(html|txt)$|"
                             r"/(de|fr|ja|ru|it|es|pl|pt|nl|zh-[a-z]+|uk|sv|ca|da|ko|el|fi|hr|lt|hu|ro)/")


def plain(page: str) -> str:
    """The text of an HTML page, a paragraph a block."""
    page = re.sub(r"(?s)<(script|style|head|nav)\b.*?</\1>", "", page)
    page = re.sub(r"(?i)</(p|li|h[1-6]|div|pre|td|tr|dt|dd)>|<br ?/?>", "\n\n", page)
    return html.unescape(re.sub(r"<[^>]*>", "", page))


def documents(root: pathlib.Path):
    # Sphinx' own sources where a package has them, else its pages.
    paths = sorted(root.rglob("*.rst.txt")) or sorted(root.rglob("*.html"))
    for path in paths:
        name = str(path.relative_to(root))
        if LEFT_OUT_FILES.search(name) or OTHER_LANGUAGES.search(name):
            continue
        if path.is_symlink() or not path.is_file():
            continue
        text = path.read_text("utf-8", "replace")
        yield plain(text) if path.suffix == ".html" else text


def kept(text: str) -> str:
    paragraphs = []
    for paragraph in re.split(r"\n\s*\n", text):
        paragraph = re.sub(r"[ \t]+\n", "\n", paragraph).strip("\n")
        # Tables of links and the like are no prose.
        if len(paragraph) < 40 or LEFT_OUT_PARAGRAPHS.search(paragraph):
            continue
        paragraphs.append(paragraph)
    return "\n\n".join(paragraphs)


def main() -> None:
    out, *packages = sys.argv[1:]
    texts = []
    for package in sorted(packages):
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run(["dpkg-deb", "-x", package, folder], check=True)
            found = [kept(text) for text in documents(pathlib.Path(folder))]
        texts += [text for text in found if text]
        print(f"{package}: {len(found)} documents, {sum(map(len, found))} characters", file=sys.stderr)
    pathlib.Path(out).write_text("\n\n".join(texts) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
