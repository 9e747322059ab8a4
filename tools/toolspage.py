"""docs/tools.md: what the offline verbs are for, and their help texts.

``python -m lamina.tools.toolspage docs/tools.md`` writes the page anew.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import sys
from pathlib import Path
from typing import Final

from lamina.tools.cli import VERBS

_WIDTH: Final = "112"
"""Columns of a help text on the page: it is 110 wide then."""

_INTRODUCTION: Final = """\
# The offline tools

`lamina` is one command with a verb for each task. `lamina serve` is the server ([server.md](server.md)); all
others work on the files of a database that no server has open, and refuse one that is in use. What each says
with `--help` is below, word for word: this page is made by `make docs`.

| to find out ... | |
| --- | --- |
| whether a database is whole | `lamina check --logical DIR` |
| what is in it, what is large, what expires when | `lamina stats DIR` |
| what a file holds, down to bytes | `lamina dump segment FILE`, `dump wal`, `dump manifest`, `dump keys` |
| where a key lies, and which of its versions counts | `lamina find --redis DIR KEY` |

| to ... | |
| --- | --- |
| mend what is damaged, and know what is lost | `lamina repair --logical --output NEW DIR` |
| give back space, or change block size and compression | `lamina compact DIR`, `compact --output NEW` |
| keep states of a database, also of one that is served | `lamina backup`, `lamina restore` |
| come from Redis, or go back | `lamina import dump.rdb DIR`, `lamina export DIR dump.rdb` |

All of them have `--json`, which prints one document on standard output, and progress bars on standard
error where that is a terminal. The exit status is 0 if all is fine, 1 if there are findings, 2 if the
arguments make no sense, a file cannot be read or written, or the database is in use. Keys in arguments and in
results are written as redis-cli writes them: printable ASCII as it is, everything else as `\\n` or `\\x00`.

None of them leaves a half-changed database. What writes to a database in its place (`repair`, `compact`,
`import` into one that exists) may be interrupted at any moment, by Ctrl-C, `kill -9` or a power failure: the
database opens afterwards, and holds what it held before or all of what was to be done; for `compact` and
`import`, the part that was done. What writes something new (`--output`, `backup`, `restore`, `export`,
`import`) writes it under another name, and renames it when it is complete and durable.

A database in the sense of these pages is the folder with the `MANIFEST`. The server makes it inside `dir`,
under the name that `dbdirname` gives, `lamina` unless configured otherwise. Its files are described in
[format.md](format.md).
"""


def help_of(verb: str) -> str:
    """Return what `lamina VERB --help` prints."""
    printed = io.StringIO()
    before = os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = _WIDTH
    try:
        with contextlib.redirect_stdout(printed):
            importlib.import_module(VERBS[verb][0]).main(["--help"])
    finally:
        if before is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = before
    return printed.getvalue()


def page() -> str:
    """Return the page."""
    sections = [
        f"## {verb}\n\n{summary[0].upper()}{summary[1:]}.\n\n```\n{help_of(verb).rstrip()}\n```\n"
        for verb, (_, summary) in VERBS.items()
        if verb != "serve"
    ]
    return "\n".join([_INTRODUCTION, *sections])


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(page(), "utf-8")
