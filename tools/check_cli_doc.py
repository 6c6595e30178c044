#!/usr/bin/env python3
"""Checks that doc/cli.md lists every option of every `--help`, and no other.

    check_cli_doc.py PROGRAM doc/cli.md             exit 1 and a list of differences
    check_cli_doc.py --update PROGRAM doc/cli.md    rewrites the tables instead

A table stands between `<!-- options: NAME -->` and `<!-- end -->`, one for each sub-command, and one
named `every-command` for the memory guard's options, which all of them must have.
"""

import pathlib
import re
import subprocess
import sys

BLOCK = re.compile(r"<!-- options: (\S+) -->\n(.*?)<!-- end -->", re.DOTALL)
DESCRIPTION_COLUMN = 30
# Their defaults are the machine's choice.
MACHINE_DEFAULTS = {"--backend"}
EVERY_COMMAND = "every-command"
SHARED = re.compile(r"--(guard|guard-.*|memory-report)")


def help_text(program, *command):
    return subprocess.run([program, *command, "--help"], check=True, capture_output=True, text=True).stdout


def sub_commands(program):
    listed = help_text(program).split("Subcommands:\n")[1]
    return re.findall(r"^  (\S+)", listed, re.MULTILINE)


def spelled(name_column):
    """'--seed UINT=0 Excludes: --x' -> ('--seed', 'UINT', '0')"""
    text = re.sub(r" (Excludes|Needs): .*", "", name_column)
    required = " REQUIRED" in text
    text = text.replace(" REQUIRED", "").replace(" ...", "")
    name, _, value = text.partition(" ")
    default = ""
    newer = re.fullmatch(r"(.*?) \[(.*)\]", value)  # CLI11 2.3 and later
    if newer:
        value, default = newer.groups()
    elif "=" in value:
        value, _, default = value.partition("=")
    value = value.split(":")[0]  # validators
    if name in MACHINE_DEFAULTS:
        default = "the fastest here"
    return name, value, "required" if required else default


def options(program, command):
    """[(name, value, default, description)] in the help's order."""
    rows = []
    pending = None
    for line in help_text(program, command).splitlines():
        line = line.replace("{}", "")
        indent = len(line) - len(line.lstrip(" "))
        column = DESCRIPTION_COLUMN - 2 + indent
        if pending and indent >= DESCRIPTION_COLUMN:
            rows.append((*spelled(pending), line.strip()))
            pending = None
            continue
        if pending:
            rows.append((*spelled(pending), ""))
            pending = None
        is_row = indent in (2, 4) and re.match(r"\s+(-|\S+ (TEXT|FILE|DIR|PATH)\b)", line)
        if not is_row or line.strip().startswith("-h,--help"):
            continue
        if len(line) > column and line[column - 1] == " ":
            rows.append((*spelled(line[:column].strip()), line[column:].strip()))
        else:
            pending = line.strip()
    if pending:
        rows.append((*spelled(pending), ""))
    return rows


def table(program, command):
    """Of a sub-command's own options; of those that all have, which must be the same everywhere."""
    if command != EVERY_COMMAND:
        return to_table(row for row in options(program, command) if not SHARED.fullmatch(row[0]))
    tables = {
        to_table(row for row in options(program, each) if SHARED.fullmatch(row[0])) for each in sub_commands(program)
    }
    return tables.pop() if len(tables) == 1 else "the sub-commands' shared options differ\n"


def to_table(rows):
    lines = ["| option | value | default | |", "|---|---|---|---|"]
    for name, value, default, description in rows:
        cells = [f"`{name}`", f"`{value}`" if value else "", default, description]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def main():
    arguments = sys.argv[1:]
    update = arguments[:1] == ["--update"]
    program, doc_path = arguments[1 if update else 0 :]
    path = pathlib.Path(doc_path)
    text = path.read_text()
    commands = [*sub_commands(program), EVERY_COMMAND]
    if update:
        path.write_text(
            BLOCK.sub(lambda m: f"<!-- options: {m[1]} -->\n{table(program, m[1])}<!-- end -->", text)
        )
        return 0
    documented = dict(BLOCK.findall(text))
    wrong = []
    for command in sorted(set(commands) ^ set(documented)):
        wrong.append(f"{command}: only in " + ("the program" if command in commands else doc_path))
    rows = 0
    for command in set(commands) & set(documented):
        in_doc = set(documented[command].splitlines())
        in_help = set(table(program, command).splitlines())
        rows += len(in_help) - 2
        wrong += [f"{command}: only in --help: {row}" for row in sorted(in_help - in_doc)]
        wrong += [f"{command}: only in {doc_path}: {row}" for row in sorted(in_doc - in_help)]
    if not rows:
        wrong.append("no option was found in --help: has its layout changed?")
    print("\n".join(wrong) or f"{doc_path}: {rows} options of {len(commands) - 1} commands, as in --help")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
