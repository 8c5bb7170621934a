"""Writes the SQL files given as rows of C: {"0001_ledger", <its bytes>}, in the order of their names.

usage: embed.py OUT FILE..
"""

import sys
from pathlib import Path


def c_bytes(data):
    """A compound literal: C compilers need not take string literals of this length."""
    lines = (", ".join(map(str, data[at:at + 24])) for at in range(0, len(data), 24))
    return "(const char[]){" + ",\n".join(lines) + ", 0}"


def main(out, *files):
    paths = sorted(map(Path, files), key=lambda path: path.name)
    rows = [f'{{"{path.stem}",\n{c_bytes(path.read_bytes())}}},\n' for path in paths]
    Path(out).write_text("".join(rows), encoding="ascii")


if __name__ == "__main__":
    main(*sys.argv[1:])
