"""The process that writes an RDB file: ``python -m lamina.server.rdbprocess``, started by saving.py.

    standard input     one line of JSON: what to write, and where to; then nothing, for as long as the parent
                       lives. When it ends, so does this process, however far it is
    standard output    one line of JSON: how much was written
    standard error     if it failed, why; the exit status is 1

It opens a checkpoint of the database, which nobody else uses, and knows nothing of the server's memory. What
a process that has been killed leaves lies in one directory, which the parent, or the next one, removes.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading

import lamina.engine as engine
from lamina.engine import EngineError
from lamina.engine.filesystem import DiskFileSystem
from lamina.server.rdbsaving import FileRules, save_file

_MEMORY_BYTES = 32 << 20
"""For blocks that are read again and again: those of small collections' elements."""


def main() -> int:
    """Write a file; returns the exit status."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which then ends us
    with contextlib.suppress(OSError):
        os.nice(1)  # the server answers people, this does not
    order = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_parent, name="lamina-rdb-input", daemon=True).start()
    try:
        with engine.open(
            order["database"], create=False, read_only=True, background="inline", memory=_MEMORY_BYTES
        ) as db:
            rules = FileRules.from_json(order["rules"])
            written = save_file(DiskFileSystem(), db.view, order["temporary"], order["path"], rules)
    except (OSError, EngineError, ValueError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(json.dumps(written._asdict()) + "\n")
    return 0


def _end_with_parent() -> None:
    sys.stdin.read()
    os._exit(1)


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    os._exit(status)  # the thread that waits for the parent is in the middle of a read
