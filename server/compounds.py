"""Kinds of configuration parameters whose values have a grammar: save points, limits, event classes."""

from __future__ import annotations

from typing import ClassVar

from lamina.server.numbers import parse_float, parse_integer
from lamina.server.parameters import ConfigError, Parameter, format_memory, parse_memory

SavePoints = tuple[tuple[int, int], ...]
OutputLimit = tuple[int, int, int]
OutputLimitMap = dict[str, OutputLimit]


class Save(Parameter[SavePoints]):
    """Pairs of seconds and changes. In a file each line adds to those above it; `save ""` forgets them."""

    takes_words = True

    def parse(self, words: list[bytes], current: SavePoints) -> SavePoints:
        if words == [b""]:
            return ()
        numbers = [parse_integer(word) for word in words]
        points = []
        for seconds, changes in zip(numbers[::2], numbers[1::2]):
            if seconds is None or changes is None or seconds < 1 or changes < 0:
                raise ConfigError("Invalid save parameters")
            points.append((seconds, changes))
        if not numbers or len(numbers) % 2:
            raise ConfigError("Invalid save parameters")
        return tuple(points)

    def append(self, words: list[bytes], current: SavePoints) -> SavePoints:
        points = self.parse(words, current)
        return current + points if points else ()

    def format(self, value: SavePoints) -> bytes:
        return b" ".join([b"%d %d" % point for point in value])

    def lines(self, value: SavePoints) -> list[bytes]:
        return [b"%d %d" % point for point in value] or [b'""']


class OutputLimits(Parameter[OutputLimitMap]):
    """For each class of clients: hard and soft limit in bytes, and seconds the soft one may be exceeded."""

    takes_words = True
    _CLASSES: ClassVar = {b"normal": "normal", b"slave": "slave", b"replica": "slave", b"pubsub": "pubsub"}

    def parse(self, words: list[bytes], current: OutputLimitMap) -> OutputLimitMap:
        if words == [b""]:
            return current
        if not words or len(words) % 4:
            raise ConfigError("Wrong number of arguments in buffer limit configuration.")
        limits = dict(current)
        for at in range(0, len(words), 4):
            name = self._CLASSES.get(words[at].lower())
            if name is None:
                raise ConfigError("Invalid client class specified in buffer limit configuration.")
            hard, soft = parse_memory(words[at + 1]), parse_memory(words[at + 2])
            seconds = parse_integer(words[at + 3])
            if hard is None or soft is None or seconds is None or seconds < 0:
                raise ConfigError(
                    "Error in hard, soft or soft_seconds setting in buffer limit configuration."
                )
            limits[name] = (hard, soft, seconds)
        return limits

    def format(self, value: OutputLimitMap) -> bytes:
        return b" ".join([b"%b %d %d %d" % (name.encode(), *limit) for name, limit in value.items()])

    def lines(self, value: OutputLimitMap) -> list[bytes]:
        return [
            b"%b %b %b %d" % (name.encode(), format_memory(hard), format_memory(soft), seconds)
            for name, (hard, soft, seconds) in value.items()
        ]


class Percentiles(Parameter[tuple[float, ...]]):
    """Numbers from 0 to 100."""

    takes_words = True

    def parse(self, words: list[bytes], current: tuple[float, ...]) -> tuple[float, ...]:
        if words == [b""]:
            return ()
        values = []
        for word in words:
            value = parse_float(word)
            if value is None:
                raise ConfigError(f"Invalid {self.name} parameters")
            if not 0.0 <= value <= 100.0:
                raise ConfigError(f"{self.name} parameters should sit between [0.0,100.0]")
            values.append(value)
        return tuple(values)

    def format(self, value: tuple[float, ...]) -> bytes:
        return " ".join([f"{number:f}".rstrip("0").rstrip(".") for number in value]).encode()

    def lines(self, value: tuple[float, ...]) -> list[bytes]:
        return [self.format(value) or b'""']


class EventClasses(Parameter[int]):
    """A set of flags, each a letter; `letters` lists them in the order in which they are shown.

    `A` is short for the flags of `everything`.
    """

    def __init__(self, letters: dict[str, int], everything: int, doc: str) -> None:
        super().__init__(0, doc)
        self.letters = letters
        self.everything = everything

    def parse(self, words: list[bytes], current: int) -> int:
        flags = 0
        for letter in words[0].decode("latin-1"):
            if letter == "A":
                flags |= self.everything
            elif letter in self.letters:
                flags |= self.letters[letter]
            else:
                raise ConfigError("Invalid event class character. Use 'Ag$lshzxeKEtmdn'.")
        return flags

    def format(self, value: int) -> bytes:
        shown = ""
        if value & self.everything == self.everything:
            shown = "A"
            value &= ~self.everything
        return (shown + "".join(letter for letter, flag in self.letters.items() if value & flag)).encode()
