r"""Files of commands: append-only files, and what one would send to a server.

    *3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n        a command, as clients send it
    #TS:1735689600\r\n                                an annotation, which is passed over
    SET k "some text"\n                               a line, as one types it; not in append-only files

Read strictly, with the offset of every command, so that damage is told by its place. Memory: the block that
is being read, and a command.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from lamina.server.encoding import ARGUMENT_SIZE_MAX
from lamina.server.splitting import split_arguments

_BLOCK_BYTES: Final = 256 * 1024
_LINE_SIZE_MAX: Final = 64 * 1024
_HEAD_SIZE_MAX: Final = 32
_STAR: Final = ord("*")
_DOLLAR: Final = ord("$")
_HASH: Final = ord("#")


class CommandFileError(Exception):
    """The file is not one of commands, or is damaged at `offset`. `is_truncated`: it ends too early there,
    and what comes before is sound."""

    def __init__(self, offset: int, what: str, *, is_truncated: bool = False) -> None:
        super().__init__(f"offset {offset}: {what}")
        self.offset = offset
        self.what = what
        self.is_truncated = is_truncated


class Commands(NamedTuple):
    """Some commands, and where each of them begins."""

    argvs: list[list[bytes]]
    offsets: list[int]


class CommandReader:
    """The commands of one file, some at a time.

    `offset` is where the first one begins. `inline`: lines are commands, too.
    """

    def __init__(self, read: Callable[[int], bytes], *, offset: int = 0, inline: bool = False) -> None:
        self._read = read
        self._inline = inline
        self.offset = offset
        """Where what has not been yielded begins."""
        self.end = offset
        """Where what has been read ends."""

    def __iter__(self) -> Iterator[Commands]:
        """Yield the commands. Errors: CommandFileError; OSError."""
        data = b""
        needed = 0
        while block := self._read(max(_BLOCK_BYTES, needed)):
            pieces = [data, block]
            missing = needed - len(block)
            while missing > 0 and (block := self._read(missing)):
                pieces.append(block)
                missing -= len(block)
            data = b"".join(pieces)
            self.end = self.offset + len(data)
            commands = Commands([], [])
            begin = self.offset
            try:
                at, needed = self._parse(data, commands)
            except CommandFileError:
                if commands.argvs:
                    yield commands
                raise
            self.offset = begin + at
            data = data[at:]
            if commands.argvs:
                yield commands
        if data:
            if self._inline and data[0] not in (_STAR, _HASH):  # a last line without an end
                arguments = self._split(data, self.offset)
                if arguments:
                    yield Commands([arguments], [self.offset])
                return
            raise CommandFileError(self.offset, "the file ends in a command", is_truncated=True)

    def _parse(self, data: bytes, into: Commands) -> tuple[int, int]:
        """Take whole commands; returns where the rest begins, and how many bytes the rest lacks at least.

        One flat loop: 1.2 µs for a SET.
        """
        begin = self.offset
        find = data.find
        add, note = into.argvs.append, into.offsets.append
        size = len(data)
        at = 0
        while at < size:
            start = at
            if data[at] != _STAR:
                end = find(b"\n", at)
                if end < 0:
                    self._check_line(data, at, begin)
                    return start, 1
                at = end + 1
                if data[start] != _HASH:
                    arguments = self._split(data[start:end], begin + start)
                    if arguments:
                        add(arguments)
                        note(begin + start)
                continue
            end = find(b"\r\n", at, at + _HEAD_SIZE_MAX)
            if end < 0:
                self._check_head(data, at, begin)
                return start, 1
            digits = data[at + 1 : end]
            if not digits.isdigit():
                raise CommandFileError(begin + at, f"a command of {digits!r} arguments")
            argv: list[bytes] = []
            at = end + 2
            for _ in range(int(digits)):
                end = find(b"\r\n", at, at + _HEAD_SIZE_MAX)
                if end < 0:
                    self._check_head(data, at, begin)
                    return start, 1
                digits = data[at + 1 : end]
                if data[at] != _DOLLAR or not digits.isdigit():
                    raise CommandFileError(begin + at, f"{data[at:end]!r} where the length of an argument is")
                length = int(digits)
                if length > ARGUMENT_SIZE_MAX:
                    raise CommandFileError(begin + at, f"an argument of {length} bytes is too long")
                at = end + 2
                stop = at + length
                if stop + 2 > size:
                    return start, stop + 2 - size
                if data[stop : stop + 2] != b"\r\n":
                    raise CommandFileError(begin + stop, "no end of line behind an argument")
                argv.append(data[at:stop])
                at = stop + 2
            if argv:
                add(argv)
                note(begin + start)
        return at, 0

    def _check_head(self, data: bytes, at: int, begin: int) -> None:
        """Refuse what cannot become the head of a command or argument."""
        if len(data) - at >= _HEAD_SIZE_MAX:
            raise CommandFileError(begin + at, f"no length in {data[at : at + _HEAD_SIZE_MAX]!r}")

    def _check_line(self, data: bytes, at: int, begin: int) -> None:
        """Refuse what cannot become a line."""
        if len(data) - at > _LINE_SIZE_MAX or (data[at] != _HASH and not self._inline):
            raise CommandFileError(begin + at, f"{data[at : at + 32]!r} where a command begins")

    def _split(self, line: bytes, offset: int) -> list[bytes]:
        """Return the arguments of a line. Errors: CommandFileError."""
        if not self._inline:
            raise CommandFileError(offset, f"{line[:32]!r} where a command begins")
        arguments = split_arguments(line.rstrip(b"\r\n"))
        if arguments is None:
            raise CommandFileError(offset, f"unbalanced quotes in {line[:64]!r}")
        return arguments
