"""Kinds of configuration parameters: how a value is parsed, checked, shown and written to a file.

A parameter is declared as an attribute of a class, under its name with underscores:

    class Settings:
        timeout = Integer(0, 0, INT_MAX, "Seconds after which an idle client is disconnected; 0: never.")

It is a descriptor only so that `config.tcp_keepalive` has the type of its value. The value itself lies in the
instance, where Python finds it first: reading one costs what reading any attribute costs.

Error texts are Redis's; `Config` and `configfile` put around them which parameter and which line is meant.
"""

from __future__ import annotations

import os
import re
from typing import ClassVar, Final, Generic, Literal, Self, TypeVar, overload

from lamina.server.numbers import parse_integer
from lamina.server.splitting import quote_if_needed

T = TypeVar("T")

Access = Literal["live", "fixed", "protected"]
"""Live: CONFIG SET may change it. Fixed: only before the server has started. Protected: fixed, for safety."""

INT_MAX: Final = (1 << 31) - 1
MEMORY_MAX: Final = (1 << 64) - 1

_MEMORY_UNITS = {
    b"": 1, b"b": 1,
    b"k": 1000, b"kb": 1 << 10, b"m": 1000**2, b"mb": 1 << 20, b"g": 1000**3, b"gb": 1 << 30,
}  # fmt: skip
_match_memory = re.compile(rb"([0-9]*)(b|kb?|mb?|gb?)?", re.IGNORECASE).fullmatch
_is_octal = re.compile(rb"0*[0-7]{1,20}").fullmatch


class ConfigError(ValueError):
    """A value that a parameter does not take; the text is for the client or the log."""


class Parameter(Generic[T]):
    """One parameter. `name` is the directive; `alias` is an older name of it that is understood and shown."""

    takes_words: ClassVar[bool] = False
    """Whether the directive takes any number of words, which CONFIG SET has in one argument."""
    is_content: ClassVar[bool] = False
    """Whether CONFIG SET changes something even if the value is the one that is there."""

    def __init__(self, default: T, doc: str, *, alias: str = "", access: Access = "live") -> None:
        self.default = default
        self.doc = doc
        self.alias = alias
        self.access = access
        self.attribute = ""
        self.name = ""

    def __set_name__(self, owner: type, attribute: str) -> None:
        self.named(attribute.replace("_", "-"))

    def named(self, name: str) -> Self:
        """Give the parameter its name; returns it."""
        self.name = name
        self.attribute = name.replace("-", "_")
        return self

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...
    @overload
    def __get__(self, instance: object, owner: type) -> T: ...
    def __get__(self, instance: object | None, owner: type) -> Self | T:
        return self if instance is None else self.default

    @property
    def names(self) -> tuple[str, ...]:
        """The name, and the alias if there is one."""
        return (self.name, self.alias) if self.alias else (self.name,)

    def parse(self, words: list[bytes], current: T) -> T:
        """Return the value that `words` give, `current` being the one until now. Errors: ConfigError."""
        raise NotImplementedError

    def append(self, words: list[bytes], current: T) -> T:
        """The same for a directive's second line in a file and those after: most replace what came before."""
        return self.parse(words, current)

    def format(self, value: T) -> bytes:
        """Return a value as CONFIG GET shows it, and CONFIG SET takes it."""
        raise NotImplementedError

    def lines(self, value: T) -> list[bytes]:
        """Return what stands behind the name in a file, for each line that it takes."""
        return [quote_if_needed(self.format(value))]


# --- Numbers


class Integer(Parameter[int]):
    """An integer from `low` to `high`, both included."""

    def __init__(
        self, default: int, low: int, high: int, doc: str, *, alias: str = "", access: Access = "live"
    ) -> None:
        super().__init__(default, doc, alias=alias, access=access)
        self.low = low
        self.high = high

    def parse(self, words: list[bytes], current: int) -> int:
        value = parse_integer(words[0])
        if value is None:
            raise ConfigError("argument couldn't be parsed into an integer")
        return self.bounded(value)

    def bounded(self, value: int) -> int:
        """Return `value`. Errors: ConfigError if it is out of bounds."""
        if not self.low <= value <= self.high:
            raise ConfigError(f"argument must be between {self.low} and {self.high} inclusive")
        return value

    def format(self, value: int) -> bytes:
        return b"%d" % value


class ClampedInteger(Integer):
    """An integer that is taken to the nearest bound when it is beyond."""

    def bounded(self, value: int) -> int:
        if not 0 <= value <= INT_MAX:
            raise ConfigError(f"argument must be between 0 and {INT_MAX} inclusive")
        return min(max(value, self.low), self.high)


class Octal(Integer):
    """Permissions of a file."""

    def parse(self, words: list[bytes], current: int) -> int:
        if _is_octal(words[0]) is None:
            raise ConfigError("argument couldn't be parsed as an octal number")
        value = int(words[0], 8)
        if not self.low <= value <= self.high:
            raise ConfigError(f"argument must be between {self.low:o} and {self.high:o} inclusive")
        return value

    def format(self, value: int) -> bytes:
        return b"%o" % value


class Memory(Integer):
    """Bytes, with or without a unit: 1k is 1000, 1kb is 1024; so m, mb, g, gb."""

    def parse(self, words: list[bytes], current: int) -> int:
        value = parse_memory(words[0])
        if value is None:
            raise ConfigError("argument must be a memory value")
        return self.bounded(value)

    def lines(self, value: int) -> list[bytes]:
        return [format_memory(value)]


class MemoryOrPercent(Integer):
    """Bytes, or percents of what there is, which are held as a negative number."""

    def parse(self, words: list[bytes], current: int) -> int:
        text = words[0]
        if text.endswith(b"%"):
            percents = parse_integer(text[:-1])
            if percents is None or percents < 0:
                raise ConfigError("argument must be a memory or percent value")
            if percents > -self.low:
                raise ConfigError(f"percentage argument must be less or equal to {-self.low}")
            return -percents
        value = parse_memory(text)
        if value is None:
            raise ConfigError("argument must be a memory or percent value")
        return self.bounded(value)

    def format(self, value: int) -> bytes:
        return b"%d%%" % -value if value < 0 else b"%d" % value


def parse_memory(text: bytes) -> int | None:
    """Return the bytes that e.g. b"256mb" are, or None. No digits are none: Redis has it so."""
    match = _match_memory(text)
    if match is None:
        return None
    digits, unit = match.groups(b"")
    return int(digits or b"0") * _MEMORY_UNITS[unit.lower()]


def format_memory(size_bytes: int) -> bytes:
    """Return a size in the largest unit that divides it."""
    for unit in (b"gb", b"mb", b"kb"):
        if size_bytes and size_bytes % _MEMORY_UNITS[unit] == 0:
            return b"%d%b" % (size_bytes // _MEMORY_UNITS[unit], unit)
    return b"%d" % size_bytes


# --- Words


class YesNo(Parameter[bool]):
    """yes or no."""

    def parse(self, words: list[bytes], current: bool) -> bool:
        word = words[0].lower()
        if word not in (b"yes", b"no"):
            raise ConfigError("argument must be 'yes' or 'no'")
        return word == b"yes"

    def format(self, value: bool) -> bytes:
        return b"yes" if value else b"no"


class Only(Parameter[str]):
    """A directive that is taken with the one value Lamina can live up to; `reason` says why with no other."""

    def __init__(self, default: str, reason: str, *, alias: str = "", access: Access = "fixed") -> None:
        super().__init__(default, reason, alias=alias, access=access)

    takes_words = True

    def parse(self, words: list[bytes], current: str) -> str:
        if b" ".join(words).decode("utf-8", "replace").lower() not in ("", self.default):
            raise ConfigError(self.doc)
        return self.default

    def format(self, value: str) -> bytes:
        return value.encode()


class Enum(Parameter[str]):
    """One of a few words."""

    def __init__(
        self, default: str, choices: str, doc: str, *, alias: str = "", access: Access = "live"
    ) -> None:
        super().__init__(default, doc, alias=alias, access=access)
        self.choices = tuple(choices.split())

    def parse(self, words: list[bytes], current: str) -> str:
        return self.chosen(words[0])

    def chosen(self, word: bytes) -> str:
        """Return the choice that `word` is. Errors: ConfigError."""
        text = word.decode("utf-8", "replace").lower()
        if text not in self.choices:
            raise ConfigError(f"argument(s) must be one of the following: {', '.join(self.choices)}")
        return text

    def format(self, value: str) -> bytes:
        return value.encode()


class Choices(Enum):
    """Several of a few words; the first of them means none of the others."""

    takes_words = True

    def parse(self, words: list[bytes], current: str) -> str:
        chosen = {self.chosen(word) for word in words}
        return " ".join(word for word in self.choices[1:] if word in chosen) or self.choices[0]


class Text(Parameter[str]):
    """Any text: names, paths. What is not UTF-8 is kept as the os module keeps it."""

    def parse(self, words: list[bytes], current: str) -> str:
        return os.fsdecode(words[0])

    def format(self, value: str) -> bytes:
        return os.fsencode(value)


class ContentOf(Text):
    """The name of a file whose content is meant: setting it to what it is reads the file again."""

    is_content = True


class Data(Parameter[bytes]):
    """Bytes: passwords."""

    def parse(self, words: list[bytes], current: bytes) -> bytes:
        return words[0]

    def format(self, value: bytes) -> bytes:
        return value


class FileName(Text):
    """The name of a file or directory inside another directory."""

    def parse(self, words: list[bytes], current: str) -> str:
        name = os.fsdecode(words[0])
        if not name:
            raise ConfigError(f"{self.name} can't be empty")
        if "/" in name or name in (".", ".."):
            raise ConfigError(f"{self.name} can't be a path, just a filename")
        return name


class Directory(Text):
    """A directory, which must be there; made absolute. A relative one starts from what it has been so far."""

    def parse(self, words: list[bytes], current: str) -> str:
        path = os.path.normpath(os.path.join(current, os.fsdecode(words[0])))
        try:
            if not os.path.isdir(path):
                os.listdir(path)  # says what is wrong with it
        except OSError as error:
            raise ConfigError(error.strerror or str(error)) from None
        return path


class Words(Parameter[tuple[str, ...]]):
    """Any number of words."""

    takes_words = True

    def parse(self, words: list[bytes], current: tuple[str, ...]) -> tuple[str, ...]:
        if words == [b""]:
            return ()
        return tuple(map(os.fsdecode, words))

    def format(self, value: tuple[str, ...]) -> bytes:
        return os.fsencode(" ".join(value))

    def lines(self, value: tuple[str, ...]) -> list[bytes]:
        return [self.format(value) or b'""']
