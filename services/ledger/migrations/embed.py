"""Writes the SQL files given as rows of C: {"0001_ledger", "<text>"}, in the order of their names.

usage: embed.py OUT FILE..
"""

import sys
from pathlib import Path


def c_string(text):
    """One C literal a line; no line is near the compiler's limit."""
    escaped = (line.replace("\\", "\\\\").replace('"', '\\"').replace("\t", "\\t") for line in text.splitlines())
    return "\n".join(f'     "{line}\\n"' for line in escaped)


def main(out, *files):
    paths = sorted(map(Path, files), key=lambda path: path.name)
    rows = [f'    {{"{path.stem}",\n{c_string(path.read_text(encoding="utf-8"))}}},\n' for path in paths]
    Path(out).write_text("".join(rows), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
