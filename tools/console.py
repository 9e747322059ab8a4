"""What the offline verbs share: exit statuses, help, errors, progress, and how bytes and numbers are shown.

    stdout   results, and nothing else: a table for people or, with --json, one JSON document
    stderr   errors, and progress if it is a terminal

A verb is a module with `main(arguments) -> status`, which hands its parser and its body to `run`:

    def main(arguments: list[str]) -> int:
        parser = console.parser("check", "say what is wrong with a database", EPILOG)
        parser.add_argument("directory", metavar="DIR", help="...")
        return console.run(parser, check, arguments)

The body returns FINE or FINDINGS; whatever it raises of UsageError, EngineError and OSError becomes one line
and TROUBLE.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Final, Literal, NoReturn

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    ProgressColumn,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.progress import Progress as RichProgress

from lamina.engine import EngineError, LockedError
from lamina.engine.filenames import LOCK, MANIFEST, parse_name
from lamina.engine.filesystem import DiskFileSystem

FINE: Final = 0
FINDINGS: Final = 1
TROUBLE: Final = 2
INTERRUPTED: Final = 130
BROKEN_PIPE: Final = 141

EXIT_STATUS: Final = """\
exit status: 0 fine; 1 there are findings; 2 usage, input and output, or the database is in use
"""
"""For the end of help texts."""

_DATABASE_FOLDER: Final = "lamina"
"""What a server calls its database's folder unless `dbdirname` says otherwise."""

_REFRESH_S: Final = 0.1
"""Between two drawings of a progress bar; a call to rich costs tens of microseconds, ours one."""


class UsageError(Exception):
    """The arguments do not say what to do. The text says what is wrong with them, and what would do."""


# -- arguments and errors --------------------------------------------------------------------------


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are UsageError, so that a verb can be called from a program."""

    def error(self, message: str) -> NoReturn:
        """Refuse the arguments."""
        raise UsageError(f"{message}\n{self.format_usage()}".rstrip())


def parser(verb: str, summary: str, epilog: str = "") -> Parser:
    """Return the parser of a verb, with the options that all have: --help, --json, --quiet.

    `summary` is what the help says first, `epilog` what it says last: sections such as examples, as they are.
    """
    made = Parser(
        prog=f"lamina {verb}",
        description=summary,
        epilog=f"{epilog.rstrip()}\n\n{EXIT_STATUS}".lstrip(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    made.add_argument("--json", action="store_true", help="print one JSON document")
    made.add_argument("--quiet", action="store_true", help="no progress, and no more text than is needed")
    return made


def run(parser: Parser, body: Callable[[argparse.Namespace], int], arguments: list[str]) -> int:
    """Parse the arguments, run a verb's body and return the exit status; errors become a line on stderr."""
    try:
        status = body(parser.parse_args(arguments))
        sys.stdout.flush()
        return status
    except SystemExit as leave:  # after --help
        return int(leave.code or FINE)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read the results has had enough. What is left in the buffer must not be tried again at exit.
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except LockedError as error:
        _complain(parser, f"{str(error).partition(';')[0]}: stop it, or use BGSAVE or lamina backup --host")
    except OSError as error:
        where = f"{error.filename}: " if error.filename is not None else ""
        _complain(parser, f"{where}{error.strerror or error}")
    except (UsageError, EngineError) as error:
        _complain(parser, str(error))
    return TROUBLE


def _complain(parser: Parser, text: str) -> None:
    sys.stderr.write(f"{parser.prog}: {text}\n")


# -- databases -------------------------------------------------------------------------------------


def database_directory(path: str) -> str:
    """Return `path` if there is a database, however damaged. Errors: UsageError, with what may be meant."""
    if _is_database(path):
        return path
    inner = os.path.join(path, _DATABASE_FOLDER)
    if _is_database(inner):
        raise UsageError(f"{path}: there is no database here, but there is one in {inner}")
    if not os.path.isdir(path):
        raise UsageError(f"{path}: there is no such folder")
    raise UsageError(f"{path}: there is no database here")


def _is_database(path: str) -> bool:
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        return any(name == MANIFEST or parse_name(name) for name in os.listdir(path))
    return False


@contextlib.contextmanager
def offline(path: str, *, writes: bool) -> Iterator[None]:
    """Hold a database's lock meanwhile, so that nobody opens it. Errors: LockedError, OSError.

    A verb that only reads leaves a folder without a lock file alone, and one in which it may not write.
    """
    lock = os.path.join(path, LOCK)
    if not writes and not (os.path.exists(lock) and os.access(lock, os.W_OK)):
        yield
        return
    held = DiskFileSystem().lock(lock)
    try:
        yield
    finally:
        held.release()


# -- progress --------------------------------------------------------------------------------------


class Progress:
    """A progress bar on stderr; silent where that is no terminal. One thread.

    with Progress("checking", total, unit="bytes", silent=arguments.json or arguments.quiet) as progress:
        progress.advance(n)
    """

    def __init__(
        self,
        what: str,
        total: int | None = None,
        *,
        unit: Literal["bytes", "entries"] = "entries",
        silent: bool = False,
    ) -> None:
        self.done = 0
        self._rich: RichProgress | None = None
        self._drawn_s = 0.0
        if silent or not sys.stderr.isatty():
            return
        columns: list[ProgressColumn] = [TextColumn("{task.description}"), BarColumn()]
        if unit == "bytes":
            columns += [DownloadColumn(binary_units=True), TransferSpeedColumn()]
        else:
            columns += [MofNCompleteColumn()]
        self._rich = RichProgress(
            *columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True
        )
        self._task = self._rich.add_task(what, total=total)

    def __enter__(self) -> Progress:
        if self._rich is not None:
            self._rich.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._rich is not None:
            self._rich.stop()

    def advance(self, count: int) -> None:
        """Note that `count` more bytes or entries are done."""
        self.done += count
        if self._rich is not None:
            now_s = time.monotonic()
            if now_s - self._drawn_s >= _REFRESH_S:
                self._drawn_s = now_s
                self._rich.update(self._task, completed=self.done)

    def begin(self, what: str, total: int | None = None) -> None:
        """Go on to another piece of work: the bar starts anew."""
        self.done = 0
        if self._rich is not None:
            self._rich.reset(self._task, description=what, total=total)


# -- texts -----------------------------------------------------------------------------------------

_ESCAPES: Final = {0x07: "\\a", 0x08: "\\b", 0x09: "\\t", 0x0A: "\\n", 0x0D: "\\r", 0x5C: "\\\\"}
_TEXTS: Final = [
    _ESCAPES.get(byte) or (chr(byte) if 0x20 <= byte < 0x7F else f"\\x{byte:02x}") for byte in range(256)
]
_UNESCAPES: Final = {text[1]: byte for byte, text in _ESCAPES.items()} | {'"': 0x22, "'": 0x27}
_ESCAPE: Final = re.compile(r"\\(x[0-9a-fA-F]{2}|.|$)", re.DOTALL)


def text_of(data: bytes) -> str:
    """Show bytes as redis-cli does, without quotes: printable ASCII as it is, the rest as \\n or \\xNN."""
    return "".join(map(_TEXTS.__getitem__, data))


def bytes_of(text: str) -> bytes:
    """Return the bytes that an argument stands for: the inverse of `text_of`. Errors: UsageError."""
    return b"".join(_pieces(text))


def _pieces(text: str) -> Iterator[bytes]:
    at = 0
    for match in _ESCAPE.finditer(text):
        yield os.fsencode(text[at : match.start()])
        escape = match[1]
        if len(escape) == 3:
            yield bytes.fromhex(escape[1:])
        elif escape in _UNESCAPES:
            yield bytes([_UNESCAPES[escape]])
        else:
            raise UsageError(f"{text}: \\{escape} means nothing; a backslash is written as \\\\")
        at = match.end()
    yield os.fsencode(text[at:])


def json_text(value: object, *, indent: int | None = None) -> str:
    """Return JSON for plain values, mappings, sequences, NamedTuples (as objects) and bytes (`text_of`)."""
    return json.dumps(_plain(value), indent=indent)


def print_json(value: object) -> None:
    """Print the one JSON document that a verb prints."""
    sys.stdout.write(json_text(value, indent=2) + "\n")


def _plain(value: object) -> object:
    if isinstance(value, bytes):
        return text_of(value)
    if isinstance(value, Mapping):
        return {_name(key): _plain(item) for key, item in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return _plain(value._asdict())
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(item) for item in value]
    return value


def _name(key: object) -> str:
    return text_of(key) if isinstance(key, bytes) else str(key)


def human_size(size_bytes: int) -> str:
    """Return a size for people: 512 B, 1.5 KiB, 20.0 MiB."""
    size = float(size_bytes)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(size) < 1024:
            return f"{size:.1f} {unit}" if unit != "B" else f"{size_bytes} B"
        size /= 1024
    return f"{size:.1f} TiB"


def human_count(count: int) -> str:
    """Return a count for people: 12,345."""
    return f"{count:,}"
