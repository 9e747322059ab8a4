"""A demonstration of the engine: ``python -m lamina.engine [DIRECTORY]`` opens a database there and works on
it.

An empty database first gets ten thousand entries to look at. Then commands are read from standard input, one
on a line: put KEY VALUE, get KEY, delete KEY, scan [PREFIX], count [PREFIX], compact, stats, quit.
"""

from __future__ import annotations

import json
import sys
import time

import lamina.engine as engine

_HELP = "put KEY VALUE | get KEY | delete KEY | scan [PREFIX] | count [PREFIX] | compact | stats | quit"


def run_command(db: engine.Database, words: list[str]) -> str:
    """Carry out one command and return what to print. Errors: ValueError for a command that is not
    understood."""
    keys = [word.encode() for word in words[1:]]
    match words[0], len(keys):
        case "put", 2:
            db.put(keys[0], keys[1])
            return "ok"
        case "get", 1:
            value = db.get(keys[0])
            return "(no such key)" if value is None else value.decode(errors="replace")
        case "delete", 1:
            db.delete(keys[0])
            return "ok"
        case "scan", 0 | 1:
            found = db.scan(prefix=keys[0] if keys else b"", limit=100)
            return "\n".join(
                f"{k.decode(errors='replace')} = {v[:60].decode(errors='replace')}" for k, v in found
            )
        case "count", 0 | 1:
            return str(db.count(prefix=keys[0] if keys else b""))
        case "compact", 0:
            db.compact()
            return "ok"
        case "stats", 0:
            return json.dumps(db.stats().as_dict(), indent=2)
    raise ValueError(_HELP)


def demonstrate(db: engine.Database) -> None:
    """Store ten thousand entries, read some back, and print what that took."""
    began_s = time.perf_counter()
    for first in range(0, 10_000, 100):
        with db.batch() as batch:
            for number in range(first, first + 100):
                batch.put(b"demo:%05d" % number, b"value of %d" % number)
    wrote_s = time.perf_counter() - began_s
    print(f"{db.path}: wrote 10,000 entries in {wrote_s * 1000:.0f} ms")
    print(f"demo:00042 = {db[b'demo:00042'].decode()}")
    print(
        f"{db.count(prefix=b'demo:01')} keys begin with demo:01; the 5,000th is {db.select(None, None, 4999)}"
    )


def main() -> None:
    """Open the database named on the command line and serve commands from standard input."""
    directory = sys.argv[1] if len(sys.argv) > 1 else "data"
    with engine.open(directory) as db:
        if db.count() == 0:
            demonstrate(db)
        print(f"{db.path} holds {db.count()} keys; commands, one on a line: {_HELP}")
        for line in sys.stdin:
            words = line.strip().split(maxsplit=2)
            if words == ["quit"]:
                break
            if words:
                try:
                    print(run_command(db, words))
                except (ValueError, TypeError) as error:
                    print(error)


if __name__ == "__main__":
    main()
