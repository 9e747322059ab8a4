"""docs/configuration.md: every directive, made from the declarations.

    python -m lamina.server.configurationpage docs/configuration.md

`make docs` does that; a test fails while the page is not what it would be.
"""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from lamina.server.compounds import EventClasses, OutputLimits, Percentiles, Save
from lamina.server.directives import PARAMETERS
from lamina.server.inert import INERT
from lamina.server.parameters import (
    INT_MAX,
    ClampedInteger,
    Enum,
    FileName,
    Integer,
    Memory,
    Octal,
    Only,
    Parameter,
    Words,
    YesNo,
    format_memory,
)
from lamina.server.sockets import TLS_SETTINGS
from lamina.server.version import REDIS_VERSION

TOPICS: Final = {
    "bind": "Where it listens",
    "tls-port": "TLS",
    "requirepass": "Who may come in",
    "dir": "The process",
    "appendfsync": "What it keeps, and how",
    "proto-max-bulk-len": "Limits on clients",
    "slowlog-log-slower-than": "What it tells of itself",
    "hash-max-listpack-entries": "Encodings that are shown",
}
"""Topics by the directive that begins them in `settings.py`: a new line there finds its table by itself."""

_NEW_CONNECTIONS: Final = frozenset(("tcp-keepalive", "proto-max-bulk-len", *TLS_SETTINGS))

_DIR_DEFAULT: Final = "where it is started"
"""Said here, as it depends on where this page is made."""

_UNBOUNDED: Final = INT_MAX
_MEMORY_UNBOUNDED: Final = 1 << 40
"""Bounds from which on one need not be told."""
_LINE_SIZE: Final = 110

_KINDS: Final[dict[type, str]] = {
    Save: "`seconds changes ...`",
    OutputLimits: "`class hard soft seconds ...`",
    Percentiles: "numbers, 0 to 100",
    Words: "words",
    FileName: "a name without `/`",
}

_HEAD: Final = f"""# Configuration

Made by `make docs` from the declarations: do not edit. Directives have the names, bounds and defaults of
Redis {REDIS_VERSION}; Lamina's own are marked.
"""

_TOPIC_NOTES: Final = {
    "Where it listens": """
*Run time* is what CONFIG SET can do:

| | |
| --- | --- |
| yes | what is set holds from now on |
| new connections | connections that are there keep what they have (of `proto-max-bulk-len`, for requests) |
| no | CONFIG SET refuses it, as Redis does with what is immutable or protected |
""",
    "TLS": """
`tls-port` needs a certificate; with `tls-auth-clients yes`, the default, clients must show one as well,
signed by an authority of `tls-ca-cert-file` or `tls-ca-cert-dir`. CONFIG SET of a file reads it again even if
its name is the same, so renewed certificates need no restart.
[A quick start](#tls-in-four-lines) is below.
""",
    "Encodings that are shown": """
Lamina stores a collection in one way at any size. These are the sizes up to which OBJECT ENCODING names the
compact encoding, as Redis would have chosen it. What follows from the encoding in Redis follows here as well:
a small hash, set or sorted set is returned by one call of HSCAN, SSCAN or ZSCAN as a whole.
""",
}

_TAIL: Final = """## Files

`lamina serve /etc/lamina.conf` reads a file in redis.conf's syntax:

- One directive on a line; names in any case. A line that begins with `#` is a comment.
- Words may be quoted: `"a b\\x00"` with escapes as in C, `'a b'` with none but `\\'`.
- `include path` reads another file in its place. A relative path starts from `dir` if a line above sets it,
  else where the server is started; a pattern (`/etc/lamina/*.conf`) may match nothing.
- `rename-command GET fetch`: the command is found under the new name only; `rename-command DEBUG ""` takes it
  away. Replies and INFO call it what it was.
- What comes later wins. Further `save` lines add to the first, `save ""` forgets them; of
  `client-output-buffer-limit` each line sets its own classes.
- An unknown directive, a value out of bounds or an unbalanced quote ends the start with the file, the line
  and the reason, in redis-server's words.

A file made for redis-server is taken as it is but for these:

| directive | what happens |
| --- | --- |
{only}
| `loadmodule` | refused: "Lamina loads no modules" |

`daemonize yes` is taken, with a warning: the server stays in the foreground, for systemd or the like to run
it. What Debian installs as /etc/redis/redis.conf is taken as a whole; give Lamina a `dir`, a `logfile` and a
`pidfile` of its own.

Relative paths (`pidfile`, `logfile`, `unixsocket`, certificates) start from `dir`, which the server makes its
directory when it has read all.

CONFIG REWRITE writes the configuration back to the file. Comments, order and lines that are right stay as
they are; lines that are not are replaced; what is not at its default and has no line is added at the end. The
file is replaced in one step. What was included is not written: a directive that an included file sets gets a
line in the main one.

## Command line

    lamina serve [file] [--directive value ...]
    lamina serve /etc/lamina.conf --port 7000 --memory 1gb --save 900 1 --loglevel debug

Options come after the file and win over it. A directive with several words takes all up to the next option;
`--save ""` is understood without the quotes as well. `python -m lamina.tools serve` is the same, and
`lamina serve --help` says the most important things. The exit status is 0 after a clean end, 1 if what was
written last may not be on the disk, 2 if the server could not start.

## Units

    1k  1000 bytes       1kb  1024 bytes
    1m  1000000          1mb  1048576
    1g  1000000000       1gb  1073741824

in any case; `b` and no unit are bytes.

## Memory

`memory` is what data may take in the server's process:

| share | for |
| --- | --- |
| three quarters | the engine: up to three memtables of a sixth each, 64 MB at most, and the block cache |
| one quarter | records, strings and collections in use, decoded |

Not in it: the interpreter with its libraries, some 35 MB; what clients are sent and have not taken
(`client-output-buffer-limit`); requests under way (`client-query-buffer-limit`); the indexes of open
segments. The worker, which flushes and compacts, is a process of its own beside the server and takes some 30
to 100 MB more. INFO memory tells what is used, INFO lamina by whom: `memtable_size_bytes`,
`cache_size_bytes`, `record_cache_bytes`.

More `memory` means fewer reads from disk, and, up to 512 MB, fewer and larger flushes, so less to compact.
`maxmemory` means nothing here: it is shown, and nothing is ever evicted.

## TLS in four lines

    openssl req -x509 -newkey rsa:2048 -nodes -days 365 -subj /CN=localhost -keyout key.pem -out cert.pem
    lamina serve --port 0 --tls-port 6380 --tls-auth-clients no \\
                 --tls-cert-file cert.pem --tls-key-file key.pem
    redis-cli -p 6380 --tls --cacert cert.pem

After they have been renewed: `CONFIG SET tls-cert-file cert.pem`.

## systemd

[contrib/lamina.service](../contrib/lamina.service) is a unit. With `supervised systemd` (or `auto`) the
server tells systemd when it is ready and when it stops; for Upstart it stops itself once it is ready.
SIGTERM and SIGINT end it cleanly: what has been acknowledged is in the log, waiting replies are sent, the log
is synced. After a kill -9 nothing that was acknowledged is missing either.
"""


def page() -> str:
    """Return the whole page."""
    tables = "\n".join(_tables())
    only = "\n".join(_refusal(parameter) for parameter in INERT if isinstance(parameter, Only))
    tail = _TAIL.replace("{only}", only)
    return f"{_HEAD}\n{tables}\n{_inert()}\n{tail}"


def _refusal(parameter: Only) -> str:
    taken = f"only `{parameter.default}` is taken" if parameter.default else "refused"
    return f'| {_names(parameter)} | {taken}: "{parameter.doc}" |'


def _tables() -> Iterator[str]:
    inert = set(INERT)
    is_first = True
    for parameter in PARAMETERS:
        if parameter in inert:
            continue
        title = TOPICS.get(parameter.name)
        if title is not None:
            if not is_first:
                yield ""
            is_first = False
            yield f"## {title}"
            yield _TOPIC_NOTES.get(title, "")
            yield "| directive | values | default | run time | meaning |"
            yield "| --- | --- | --- | --- | --- |"
        yield _row(parameter)


def _row(parameter: Parameter[Any]) -> str:
    doc = parameter.doc
    meaning = doc.replace("Lamina's own.", "**Lamina's own.**").replace("*", "\\*", doc.count("* is"))
    cells = (_names(parameter), values_of(parameter), _default(parameter), _run_time(parameter), meaning)
    return f"| {' | '.join(cells)} |"


def _names(parameter: Parameter[Any]) -> str:
    return f"`{parameter.name}`" + (f" (`{parameter.alias}`)" if parameter.alias else "")


def values_of(parameter: Parameter[Any]) -> str:
    """Return what a parameter takes, for the page."""
    if isinstance(parameter, YesNo):
        return "`yes` `no`"
    if isinstance(parameter, Enum):
        return " ".join(f"`{choice}`" for choice in parameter.choices)
    if isinstance(parameter, EventClasses):
        return f"letters of `A{''.join(parameter.letters)}`"
    if isinstance(parameter, Octal):
        return f"octal, {parameter.low:o} to {parameter.high:o}"
    if isinstance(parameter, Memory):
        low = format_memory(parameter.low).decode()
        if parameter.high >= _MEMORY_UNBOUNDED:
            return "memory" if not parameter.low else f"memory, from {low}"
        return f"memory, {low} to {format_memory(parameter.high).decode()}"
    if isinstance(parameter, ClampedInteger):
        return f"{parameter.low} to {parameter.high}, or the nearest of them"
    if isinstance(parameter, Integer):
        low = "any" if parameter.low < -_UNBOUNDED else str(parameter.low)
        if parameter.high >= _UNBOUNDED:
            return "any integer" if low == "any" else f"from {low}"
        return f"{low} to {parameter.high}"
    return _KINDS.get(type(parameter), "text")


def _default(parameter: Parameter[Any]) -> str:
    if parameter.name == "dir":
        return _DIR_DEFAULT
    text = b" ".join(parameter.lines(parameter.default)).decode()
    if not isinstance(parameter, Memory):
        text = parameter.format(parameter.default).decode()
    return f"`{text}`" if text else '`""`'


def _run_time(parameter: Parameter[Any]) -> str:
    if parameter.access != "live":
        return "no"
    return "new connections" if parameter.name in _NEW_CONNECTIONS else "yes"


def _inert() -> str:
    inert = sorted(INERT, key=lambda parameter: parameter.name)
    names = [_names(p) for p in inert if not isinstance(p, Only) and p.name != "appendonly"]
    listed = textwrap.fill(f"{', '.join(names)}.", _LINE_SIZE, break_on_hyphens=False)
    return f"""
## Without effect

Redis's directives that have no meaning here are taken, checked, shown by CONFIG GET and, where Redis can,
changed by CONFIG SET. A file or command line that sets one to anything but its default gets one warning in
the log for each: `lfu-log-factor has no effect in Lamina`.

`appendonly` is one of them, with a default of its own: `yes`, as every write is logged. So are:

{listed}
"""


def main(arguments: list[str]) -> int:
    """Write the page to the file named; returns the exit status."""
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m lamina.server.configurationpage FILE\n")
        return 2
    Path(arguments[0]).write_text(page())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
